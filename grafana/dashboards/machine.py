"""One machine: what its model says, and what its channels measure."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import kit
from grafana.dashboards import queries as q
from grafana.dashboards.overview import STATE_WORDS

UID = "plantline-machine"
MACHINE = '{plant="$plant", machine_type="$machine_type", machine_id="$machine"}'


def build() -> Dashboard:
    numbers = [
        kit.number(
            "State",
            "ALARM while an alert of this machine is raised. Not scored: it is still commissioned,"
            " its first readings being its normal reference, or no reading has come yet.",
            q.machine_state(MACHINE),
            words=STATE_WORDS,
        ),
        kit.number(
            "Score ÷ threshold",
            "Of the newest window, the worst of its models. Above 1 is an alert.",
            f"max(plantline_machine_score{MACHINE} / plantline_machine_threshold{MACHINE})",
            decimals=2,
            limits=kit.high(0.8, 1),
            absent=("not scored", kit.UNKNOWN),
        ),
        kit.number(
            "Last prediction",
            "Time since the newest prediction of this machine.",
            f"time() - max(plantline_machine_prediction_timestamp_seconds{MACHINE})",
            unit="s",
            decimals=0,
            absent=("never", kit.UNKNOWN),
        ),
        kit.name(
            "Line and area",
            "Where the machine stands, as the plant model or its registration says.",
            f"plantline_machine_info{MACHINE}",
            "{{line}} {{area}}",
        ).span(6),
        kit.name(
            "Model",
            "The model of the newest prediction of this machine type, and its version.",
            'plantline_model_info{plant="$plant", machine_type="$machine_type"}',
            "{{model}} {{model_version}}",
        ).span(6),
    ]
    score = kit.graph(
        "Score and threshold",
        "A score above its threshold is an alert; a higher score is always worse.",
        [
            kit.Query(f"plantline_machine_score{MACHINE}", "{{kind}} score"),
            kit.Query(f"plantline_machine_threshold{MACHINE}", "{{kind}} threshold", is_limit=True),
        ],
        unit="short",
    )
    alerts = kit.states(
        "Alerts",
        "From when to when an alert of each rule was raised.",
        f"max by (rule) (plantline_machine_alert{MACHINE})"
        ' or on () label_replace(vector(0), "rule", "none so far", "", "")',
        "{{rule}}",
        {"1": ("raised", kit.WARNING), "0": ("no alert", kit.CALM)},
    )
    channel = MACHINE.replace("}", ', channel="$channel"}')
    channels = (
        kit.graph(
            "$channel",
            "A sample of the channel's readings, in the unit that the plant model gives it.",
            [kit.Query(f"plantline_machine_channel{channel}", "{{channel}}")],
            unit="short",
        )
        .repeat("channel")
        .repeat_direction("h")
        .max_per_row(4)
        .span(6)
    )
    return kit.dashboard(
        UID,
        "Machine",
        "One machine: its score, its alerts and its channels.",
        [
            kit.machine_type(several=False),
            kit.variable(
                "machine",
                "Machine",
                "A machine of this type.",
                'label_values(plantline_machine_info{plant="$plant", machine_type="$machine_type"},'
                " machine_id)",
            ),
            kit.variable(
                "channel",
                "Channel",
                "The machine's channels: one panel each.",
                f"label_values(plantline_machine_channel{MACHINE}, channel)",
                several=True,
            ),
        ],
        [
            (4, numbers),
            (8, [score]),
            (4, [alerts]),
            (7, [channels]),
        ],
        since="now-3h",
    )
