"""What is raised when settings, sources or routes do not validate."""


class ConfigurationRefused(Exception):
    """Carries every problem found, each as `file:line: key: what is wrong`."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
