"""Reads golden answers through the official SDK's generated models and compares what came through.

Usage: golden_shapes.py DIRECTORY
"""

import json
import pathlib
import sys

from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_vpc20160428 import models as vpc

ENIS = ecs.DescribeNetworkInterfacesResponseBody
MODELS = {
    "assign_private_ip_addresses": ecs.AssignPrivateIpAddressesResponseBody,
    "attach_network_interface": ecs.AttachNetworkInterfaceResponseBody,
    "create_network_interface": ecs.CreateNetworkInterfaceResponseBody,
    "describe_available": ENIS,
    "describe_in_use": ENIS,
    "describe_instance_types": ecs.DescribeInstanceTypesResponseBody,
    "describe_none": ENIS,
    "describe_primary": ENIS,
    "describe_v_switches": vpc.DescribeVSwitchesResponseBody,
}
# The error document is no model of the SDK; its client reads it member by member.
REFUSALS = {"delete_in_use": ["RequestId", "HostId", "Code", "Message", "Recommend"]}


def differences(place, golden, read):
    if isinstance(golden, dict) and isinstance(read, dict):
        for name, value in golden.items():
            if name not in read:
                yield f"{place}.{name} is unknown to the model"
            else:
                yield from differences(f"{place}.{name}", value, read[name])
    elif isinstance(golden, list) and isinstance(read, list) and len(golden) == len(read):
        for index, (one, other) in enumerate(zip(golden, read)):
            yield from differences(f"{place}[{index}]", one, other)
    elif golden != read:
        yield f"{place}: {golden!r} became {read!r}"


def main(directory):
    wrong = []
    for path in sorted(pathlib.Path(directory).glob("*.json")):
        answer = json.loads(path.read_text())
        if path.stem in REFUSALS:
            if sorted(answer) != sorted(REFUSALS[path.stem]):
                wrong.append(f"{path.stem}: members {sorted(answer)}")
            continue
        if path.stem not in MODELS:
            wrong.append(f"{path.stem}: no model is named for it in this script")
            continue
        read = MODELS[path.stem]().from_map(answer).to_map()
        wrong.extend(differences(path.stem, answer, read))
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
