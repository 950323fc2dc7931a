"""The command line, called in this process."""

from refbnn import cli


def run(capsys, *words):
    """Exit code, standard output and standard error of one command."""
    code: object
    try:
        code = cli.main([str(word) for word in words])
    except SystemExit as exit_:
        code = exit_.code
    return code, *capsys.readouterr()
