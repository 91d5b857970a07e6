from django.apps import AppConfig


class ProjectsConfig(AppConfig):
    name = "projects"
    verbose_name = "Projects"

    def ready(self) -> None:
        from projects import duties  # noqa: F401  registers what the clock does
        from projects.meters import register_meters

        register_meters()
