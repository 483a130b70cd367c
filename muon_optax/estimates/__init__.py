"""What XLA's compilers and a roofline say of a program for a processor that is not there."""
