"""What abseil's BUILD files use of bazel_skylib."""

def _config_setting_group(name, match_any, visibility = None):
    # A chain of aliases: each stands for its own setting where that matches, else for the next link.
    links = [name] + [name + "_or_" + str(n) for n in range(1, len(match_any) - 1)]
    for n in range(len(links)):
        native.alias(
            name = links[n],
            actual = select({
                match_any[n]: match_any[n],
                "//conditions:default": links[n + 1] if n + 1 < len(links) else match_any[-1],
            }),
            visibility = visibility,
        )

selects = struct(config_setting_group = _config_setting_group)
