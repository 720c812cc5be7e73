"""Drives a region with the official SDK, which knows nothing of it.

Usage: create_describe_delete.py ENDPOINT INSTANCE KEY-ID KEY-SECRET STS-ID STS-SECRET STS-TOKEN

Every step prints a line; the first expectation that does not hold ends the script with status 1.
"""

import sys
import time
import uuid

from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_ecs20140526.client import Client as Ecs
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.utils_models import Config
from alibabacloud_vpc20160428 import models as vpc
from alibabacloud_vpc20160428.client import Client as Vpc

REGION = "cn-hangzhou"
VSWITCH = "vsw-bp1labh"
GROUP = "sg-bp1lab"
# Attach and detach take a fraction of a second in the test's region; this is room for a slow machine.
PATIENCE_SECONDS = 30


def config(endpoint, key, secret, token=None, algorithm=None):
    return Config(
        access_key_id=key,
        access_key_secret=secret,
        security_token=token,
        endpoint=endpoint,
        protocol="http",
        region_id=REGION,
        # None is ACS3-HMAC-SHA256, the default of this generation; "v2" is HMAC-SHA1 in the query.
        signature_algorithm=algorithm,
    )


def expect(what, actual, expected):
    if actual != expected:
        sys.exit(f"{what}: expected {expected!r}, got {actual!r}")
    print(f"ok: {what}")


def refused(what, code, call):
    try:
        call()
    except AlibabaCloudException as refusal:
        expect(what, refusal.code, code)
        return
    sys.exit(f"{what}: expected a refusal with {code}, but the call was carried out")


def describe(client, eni):
    request = ecs.DescribeNetworkInterfacesRequest(
        region_id=REGION, network_interface_id=[eni], max_results=100
    )
    sets = client.describe_network_interfaces(request).body.network_interface_sets
    return sets.network_interface_set


def wait_for(client, eni, status):
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        seen = describe(client, eni)
        if seen and seen[0].status == status:
            return seen[0]
        time.sleep(0.05)
    sys.exit(f"{eni} did not become {status} in {PATIENCE_SECONDS} s; last seen: {seen}")


def life_of_an_eni(client, instance):
    request = ecs.CreateNetworkInterfaceRequest(
        region_id=REGION,
        v_switch_id=VSWITCH,
        security_group_ids=[GROUP],
        secondary_private_ip_address_count=2,
        description="made by the official SDK: ö & 网卡 +~*",
        tag=[ecs.CreateNetworkInterfaceRequestTag(key="creator", value="terway")],
        client_token=str(uuid.uuid4()),
    )
    made = client.create_network_interface(request).body
    eni = made.network_interface_id
    expect("create: status", made.status, "Available")
    expect("create: kind", made.type, "Secondary")
    expect("create: addresses", len(made.private_ip_sets.private_ip_set), 3)
    expect("create: tag", made.tags.tag[0].tag_value, "terway")
    again = client.create_network_interface(request).body
    expect("create again with the same ClientToken: same ENI", again.network_interface_id, eni)
    request.secondary_private_ip_address_count = 3
    refused(
        "create with other parameters under the ClientToken",
        "IdempotentParameterMismatch",
        lambda: client.create_network_interface(request),
    )

    seen = describe(client, eni)[0]
    expect("describe: MAC", seen.mac_address, made.mac_address)
    expect("describe: description", seen.description, request.description)
    expect("describe: groups", seen.security_group_ids.security_group_id, [GROUP])

    place = dict(region_id=REGION, network_interface_id=eni, instance_id=instance)
    client.attach_network_interface(ecs.AttachNetworkInterfaceRequest(**place))
    seen = wait_for(client, eni, "InUse")
    expect("attach: instance", seen.attachment.instance_id, instance)

    request = ecs.AssignPrivateIpAddressesRequest(
        region_id=REGION, network_interface_id=eni, secondary_private_ip_address_count=1
    )
    assigned = client.assign_private_ip_addresses(request).body.assigned_private_ip_addresses_set
    address = assigned.private_ip_set.private_ip_address[0]
    held = [ip.private_ip_address for ip in describe(client, eni)[0].private_ip_sets.private_ip_set]
    expect("assign: the address is there", address in held, True)
    request = ecs.UnassignPrivateIpAddressesRequest(
        region_id=REGION, network_interface_id=eni, private_ip_address=[address]
    )
    client.unassign_private_ip_addresses(request)
    held = [ip.private_ip_address for ip in describe(client, eni)[0].private_ip_sets.private_ip_set]
    expect("unassign: the address is gone", address in held, False)
    refused(
        "unassign again",
        "InvalidIp.IpUnassigned",
        lambda: client.unassign_private_ip_addresses(request),
    )

    client.modify_network_interface_attribute(
        ecs.ModifyNetworkInterfaceAttributeRequest(
            region_id=REGION, network_interface_id=eni, source_dest_check=True
        )
    )
    expect("modify: source check", describe(client, eni)[0].source_dest_check, True)

    delete = ecs.DeleteNetworkInterfaceRequest(region_id=REGION, network_interface_id=eni)
    refused(
        "delete while attached",
        "InvalidOperation.InvalidEniState",
        lambda: client.delete_network_interface(delete),
    )
    client.detach_network_interface(ecs.DetachNetworkInterfaceRequest(**place))
    wait_for(client, eni, "Available")
    client.delete_network_interface(delete)
    expect("delete: gone", describe(client, eni), [])
    refused("delete again", "InvalidEniId.NotFound", lambda: client.delete_network_interface(delete))


def catalogues(client, networks):
    request = ecs.DescribeInstanceTypesRequest(instance_types=["ecs.g7.xlarge"])
    (row,) = client.describe_instance_types(request).body.instance_types.instance_type
    expect("instance type: ENIs", row.eni_quantity, 4)
    expect("instance type: addresses an ENI", row.eni_private_ip_address_quantity, 15)
    expect("instance type: total", row.eni_total_quantity, 20)
    request = vpc.DescribeVSwitchesRequest(region_id=REGION, v_switch_id=VSWITCH)
    (row,) = networks.describe_vswitches(request).body.v_switches.v_switch
    expect("vSwitch: block", row.cidr_block, "10.0.1.0/24")
    expect("vSwitch: zone", row.zone_id, "cn-hangzhou-h")
    # 256 - 4 reserved - 1 of the instance.
    expect("vSwitch: free addresses", row.available_ip_address_count, 251)


def strangers(endpoint, key, secret, algorithm):
    look = ecs.DescribeNetworkInterfacesRequest(region_id=REGION)
    wrong_secret = Ecs(config(endpoint, key, secret + "x", algorithm=algorithm))
    refused(
        "a wrong secret",
        "SignatureDoesNotMatch",
        lambda: wrong_secret.describe_network_interfaces(look),
    )
    wrong_key = Ecs(config(endpoint, key + "x", secret, algorithm=algorithm))
    refused(
        "an unknown key",
        "InvalidAccessKeyId.NotFound",
        lambda: wrong_key.describe_network_interfaces(look),
    )


def main(endpoint, instance, key, secret, *sts):
    for algorithm in (None, "v2"):
        print(f"-- signature {algorithm or 'ACS3-HMAC-SHA256'}")
        settings = config(endpoint, key, secret, algorithm=algorithm)
        client, networks = Ecs(settings), Vpc(settings)
        catalogues(client, networks)
        life_of_an_eni(client, instance)
        strangers(endpoint, key, secret, algorithm)
        sts_id, sts_secret, sts_token = sts
        client = Ecs(config(endpoint, sts_id, sts_secret, sts_token, algorithm))
        life_of_an_eni(client, instance)
        client = Ecs(config(endpoint, sts_id, sts_secret, None, algorithm))
        look = ecs.DescribeNetworkInterfacesRequest(region_id=REGION)
        refused(
            "a role's key without its token",
            "MissingSecurityToken",
            lambda client=client: client.describe_network_interfaces(look),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
