"""The entry point of the command line, `python -m muon_optax`."""

from muon_optax.command._main import main

if __name__ == "__main__":
    main()
