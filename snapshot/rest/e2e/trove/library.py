"""Runs calls of troveclient against a server, and prints what they return.

Arguments: the endpoint and the token. Standard input: a JSON list of calls, each a list of the manager, the method and
its keyword arguments. Standard output: a JSON list of results, each {"result": ...}, or {"error": message, "code": n}.
"""
import json
import sys

from keystoneauth1 import session
from keystoneauth1 import token_endpoint
from troveclient import base
from troveclient import exceptions
from troveclient.v1 import client


def plain(value):
    if isinstance(value, list):
        out = {"items": [plain(v) for v in value]}
        if getattr(value, "next", None):
            out["next"] = value.next
        return out
    return value.to_dict() if isinstance(value, base.Resource) else value


def main():
    endpoint, token = sys.argv[1:]
    trove = client.Client(
        session=session.Session(auth=token_endpoint.Token(endpoint, token)),
        service_type="database", endpoint_override=endpoint)
    results = []
    for manager, method, args in json.load(sys.stdin):
        try:
            results.append({"result": plain(getattr(getattr(trove, manager), method)(**args))})
        except exceptions.ClientException as e:
            results.append({"error": e.message, "code": e.http_status})
    json.dump(results, sys.stdout)


main()
