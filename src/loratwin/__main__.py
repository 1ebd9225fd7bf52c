"""`python -m loratwin`: the command, of the very interpreter that runs it."""

from loratwin.cli import main

if __name__ == "__main__":
    main()
