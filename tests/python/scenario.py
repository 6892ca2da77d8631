#!/usr/bin/env python3
"""What a program does with the official Python client: creates, reads, lists, changes, patches, watches, deletes.

scenario.py URL AUTHORITY TOKEN    prints a line of JSON for each step, without what is another at each run.

Against a kube-apiserver 1.36 it printed recorded.jsonl.
"""
import json
import sys

from kubernetes import client, dynamic, watch
from kubernetes.client.rest import ApiException

NAMESPACE = "python"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"


def tell(step, **told):
    print(json.dumps({"step": step, **told}, sort_keys=True), flush=True)


def refused(step, call, *args, **kwargs):
    """A call that must fail, and how."""
    try:
        call(*args, **kwargs)
    except ApiException as error:
        status = json.loads(error.body)
        causes = [cause.get("field") for cause in (status.get("details") or {}).get("causes") or []]
        tell(step, code=error.status, reason=status.get("reason"), causes=sorted(set(causes)))
    else:
        tell(step, code="none: it succeeded")


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": "front"}), data=data)


def objects(core):
    made = core.create_namespaced_config_map(NAMESPACE, config_map("a", x="1"))
    tell("create", kind=made.kind, name=made.metadata.name, data=made.data, has_uid=bool(made.metadata.uid))
    refused("create again", core.create_namespaced_config_map, NAMESPACE, config_map("a", x="1"))
    refused("create an invalid one", core.create_namespaced_config_map, NAMESPACE, config_map("A_"))
    core.create_namespaced_config_map(NAMESPACE, config_map("dry", x="1"), dry_run="All")
    refused("read what was only tried", core.read_namespaced_config_map, "dry", NAMESPACE)
    read = core.read_namespaced_config_map("a", NAMESPACE)
    tell("read", same=read == made)

    read.data["x"] = "2"
    replaced = core.replace_namespaced_config_map("a", NAMESPACE, read)
    tell("replace", data=replaced.data, newer=replaced.metadata.resource_version != made.metadata.resource_version)
    refused("replace what has changed", core.replace_namespaced_config_map, "a", NAMESPACE, made)
    generated = core.create_namespaced_config_map(
        NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="g-"))
    )
    tell("generated", begins=generated.metadata.name.startswith("g-"), length=len(generated.metadata.name))
    core.delete_namespaced_config_map(generated.metadata.name, NAMESPACE)


def patches(core):
    def patch(step, body, content_type):
        done = core.patch_namespaced_config_map("a", NAMESPACE, body, _content_type=content_type)
        tell(step, data=done.data, labels=done.metadata.labels)

    patch("merge patch", {"data": {"y": "3", "x": None}}, MERGE)
    patch("strategic patch", {"metadata": {"labels": {"tier": "back"}}, "data": {"z": "4"}}, STRATEGIC)
    patch("JSON patch", [{"op": "replace", "path": "/data/y", "value": "5"}], JSON_PATCH)
    test = [{"op": "test", "path": "/data/y", "value": "9"}]
    refused("JSON patch with a wrong test", core.patch_namespaced_config_map, "a", NAMESPACE, test, _content_type=JSON_PATCH)


def lists(core):
    for name in ["b", "c", "d"]:
        core.create_namespaced_config_map(NAMESPACE, config_map(name))
    page = core.list_namespaced_config_map(NAMESPACE, limit=2)
    names = [item.metadata.name for item in page.items]
    rest = core.list_namespaced_config_map(NAMESPACE, limit=5, _continue=page.metadata._continue)
    tell("pages", first=names, rest=[item.metadata.name for item in rest.items], left=page.metadata.remaining_item_count)
    selected = core.list_namespaced_config_map(NAMESPACE, label_selector="app=front,tier!=back", field_selector="metadata.name!=d")
    tell("selected", names=[item.metadata.name for item in selected.items])
    refused("a selector that is none", core.list_namespaced_config_map, NAMESPACE, label_selector="a==b==c")


def watches(core):
    begin = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, config_map("w", x="1"))
    core.patch_namespaced_config_map("w", NAMESPACE, {"data": {"x": "2"}})
    core.delete_namespaced_config_map("w", NAMESPACE)
    seen = []
    stream = watch.Watch()
    for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=begin, timeout_seconds=60):
        seen.append([event["type"], event["object"].metadata.name, event["object"].data])
        if event["type"] == "DELETED":
            stream.stop()
    tell("watch", events=seen)
    first = []
    for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, timeout_seconds=60):
        first.append([event["type"], event["object"].metadata.name])
        if event["object"].metadata.name == "d":
            stream.stop()
    tell("watch from the beginning", events=first)


def workloads(apps, batch):
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "front"}),
        spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="web:1")], restart_policy="Always"),
    )
    spec = client.V1DeploymentSpec(replicas=2, selector=client.V1LabelSelector(match_labels={"app": "front"}), template=template)
    deployment = client.V1Deployment(metadata=client.V1ObjectMeta(name="front"), spec=spec)
    made = apps.create_namespaced_deployment(NAMESPACE, deployment)
    tell("deployment", generation=made.metadata.generation, strategy=made.spec.strategy.type, policy=made.spec.template.spec.restart_policy)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}
    patched = apps.patch_namespaced_deployment("front", NAMESPACE, image)
    containers = [[one.name, one.image] for one in patched.spec.template.spec.containers]
    tell("image", generation=patched.metadata.generation, containers=containers)
    scaled = apps.patch_namespaced_deployment_scale("front", NAMESPACE, {"spec": {"replicas": 5}})
    tell("scale", replicas=scaled.spec.replicas, selector=scaled.status.selector)
    status = apps.patch_namespaced_deployment_status("front", NAMESPACE, {"status": {"readyReplicas": 3, "replicas": 5}, "spec": {"replicas": 9}})
    tell("status", ready=status.status.ready_replicas, replicas=status.spec.replicas, generation=status.metadata.generation)
    wrong = {"spec": {"selector": {"matchLabels": {"app": "other"}}}}
    refused("what may not change", apps.patch_namespaced_deployment, "front", NAMESPACE, wrong)
    template.spec.restart_policy = "Never"
    job = client.V1Job(metadata=client.V1ObjectMeta(name="once"), spec=client.V1JobSpec(template=template, backoff_limit=2))
    made = batch.create_namespaced_job(NAMESPACE, job)
    tell("job", backoff=made.spec.backoff_limit, completions=made.spec.completions, suspend=made.spec.suspend)
    batch.delete_namespaced_job("once", NAMESPACE, propagation_policy="Background")
    refused("read what is gone", batch.read_namespaced_job, "once", NAMESPACE)


def ends(core):
    held = config_map("held")
    held.metadata.finalizers = ["example.org/hold"]
    core.create_namespaced_config_map(NAMESPACE, held)
    core.delete_namespaced_config_map("held", NAMESPACE)
    read = core.read_namespaced_config_map("held", NAMESPACE)
    tell("held", ending=read.metadata.deletion_timestamp is not None, finalizers=read.metadata.finalizers)
    core.patch_namespaced_config_map("held", NAMESPACE, {"metadata": {"finalizers": None}}, _content_type=MERGE)
    refused("let go", core.read_namespaced_config_map, "held", NAMESPACE)
    other = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="00000000-0000-4000-8000-000000000000"))
    refused("delete another one", core.delete_namespaced_config_map, "a", NAMESPACE, body=other)
    gone = core.delete_namespaced_config_map("a", NAMESPACE)
    tell("delete", status=gone["status"], kind=gone["details"]["kind"], name=gone["details"]["name"])
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="app=front")
    left = core.list_namespaced_config_map(NAMESPACE, label_selector="app=front")
    tell("delete all", left=len(left.items))


def access(core, auth, rbac):
    account = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="robot"))
    core.create_namespaced_service_account(NAMESPACE, account)
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
    token = core.create_namespaced_service_account_token("robot", NAMESPACE, request)
    tell("token", parts=token.status.token.count(".") + 1)
    rules = [client.V1PolicyRule(api_groups=[""], resources=["pods"], verbs=["get", "list"])]
    rbac.create_namespaced_role(NAMESPACE, client.V1Role(metadata=client.V1ObjectMeta(name="reader"), rules=rules))
    listed = rbac.list_namespaced_role(NAMESPACE)
    tell("role", rules=[[rule.resources, rule.verbs] for role in listed.items for rule in role.rules])
    attributes = client.V1ResourceAttributes(verb="create", resource="pods", namespace=NAMESPACE)
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    tell("may I", allowed=auth.create_self_subject_access_review(review).status.allowed)


def by_discovery(api):
    dynamics = dynamic.DynamicClient(api)
    services = dynamics.resources.get(api_version="v1", kind="Service")
    body = {
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "front"},
        "spec": {"clusterIP": "None", "selector": {"app": "front"}, "ports": [{"port": 80}]},
    }
    made = services.create(body=body, namespace=NAMESPACE)
    tell("found by discovery", port=made.spec.ports[0].to_dict(), type=made.spec.type, policy=made.spec.internalTrafficPolicy)
    patched = services.patch(name="front", namespace=NAMESPACE, body={"spec": {"ports": [{"port": 80, "name": "web"}]}}, content_type=STRATEGIC)
    tell("patched", ports=[port.to_dict() for port in patched.spec.ports])
    unknown = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "odd"}, "spec": {"ports": [{"port": 80}]}, "odd": 1}
    refused("an unknown field", services.create, body=unknown, namespace=NAMESPACE, query_params=[("fieldValidation", "Strict")])
    events = dynamics.resources.get(api_version="events.k8s.io/v1", kind="Event")
    tell("another group", items=len(events.get(namespace=NAMESPACE).items))


def main():
    url, authority, token = sys.argv[1:]
    configuration = client.Configuration(host=url)
    configuration.ssl_ca_cert = authority
    configuration.api_key = {"authorization": f"Bearer {token}"}
    with client.ApiClient(configuration) as api:
        core, apps, batch = client.CoreV1Api(api), client.AppsV1Api(api), client.BatchV1Api(api)
        auth, rbac = client.AuthorizationV1Api(api), client.RbacAuthorizationV1Api(api)
        tell("version", minor=client.VersionApi(api).get_code().minor)
        core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
        objects(core)
        patches(core)
        lists(core)
        watches(core)
        workloads(apps, batch)
        access(core, auth, rbac)
        by_discovery(api)
        ends(core)
        core.delete_namespace(NAMESPACE)
        tell("ending", phase=core.read_namespace(NAMESPACE).status.phase)


main()
