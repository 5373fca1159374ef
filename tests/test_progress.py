"""Progress bars in files and on terminals."""

import io

from progress import IN_FILES, Bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_file_gets_few_lines_and_a_terminal_many():
    for stream, interval in ((io.StringIO(), IN_FILES), (Terminal(), 0.1)):
        with Bar(range(1000), "images", file=stream) as bar:
            assert bar.mininterval == interval
            assert list(bar) == list(range(1000))
        assert "1000/1000" in stream.getvalue()  # the last state is always shown
    many = io.StringIO()
    for _ in Bar(range(100_000), file=many):
        pass
    assert many.getvalue().count("\r") <= 3
