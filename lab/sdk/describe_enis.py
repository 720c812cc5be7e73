"""Describes the lab's ENIs with the cloud's official Python SDK.

pip install alibabacloud_ecs20140526
terway-lab status --json | python3 lab/sdk/describe_enis.py
"""

import json
import sys
from urllib.parse import urlparse

from alibabacloud_ecs20140526 import models
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.models import Config

status = json.load(sys.stdin)
config = Config(
    access_key_id="LTAI5tLabKey",
    access_key_secret="lab-secret",
    region_id=status["region"],
    endpoint=urlparse(status["openapi"]).netloc,
    protocol="HTTP",
)
request = models.DescribeNetworkInterfacesRequest(region_id=status["region"])
answer = Client(config).describe_network_interfaces(request).body
print("RequestId", answer.request_id)
for eni in answer.network_interface_sets.network_interface_set:
    addresses = [ip.private_ip_address for ip in eni.private_ip_sets.private_ip_set]
    print(eni.network_interface_id, eni.type, eni.status, eni.instance_id, *addresses)
