//! The secrets that a Pod uses, before an account that allows only some.

use serde_json::Value;

use crate::{Denial, pod::resources::containers};

/// The sorts of containers, as sentences call them.
const SORTS: [(&str, &str); 3] = [
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
];

/// Refuses secrets that the account does not name: those of the containers for debugging alone where they are new.
pub(super) fn check(account: &Value, pod: &Value, only_ephemeral: bool) -> Result<(), Denial> {
    let named = |list: &str| -> Vec<&str> {
        let names = account[list].as_array().into_iter().flatten();
        names.filter_map(|named| named["name"].as_str()).collect()
    };
    let who = account["metadata"]["name"].as_str().unwrap_or_default();
    let (mountable, pulled) = (named("secrets"), named("imagePullSecrets"));
    let refused = |what: String, secret: &str| {
        Denial::from(format!(
            "{what} secret.secretName=\"{secret}\" is not allowed because service account {who} does not reference that secret"
        ))
    };
    let mut mounted = volumes(pod).filter(|_| !only_ephemeral);
    if let Some(secret) = mounted.find(|secret| !mountable.contains(secret)) {
        return Err(refused("volume with".to_owned(), secret));
    }
    for (list, sort) in SORTS.iter().filter(|(list, _)| (*list == "ephemeralContainers") == only_ephemeral) {
        for container in containers(pod, list) {
            let name = container["name"].as_str().unwrap_or_default();
            let mut used = environment(container);
            if let Some((used, secret)) = used.find(|(_, secret)| !mountable.contains(secret)) {
                return Err(refused(format!("{sort} {name} with {used} referencing"), secret));
            }
        }
    }
    let mut pulling = pulls(pod).enumerate().filter(|_| !only_ephemeral);
    if let Some((at, secret)) = pulling.find(|(_, secret)| !pulled.contains(secret)) {
        return Err(format!(
                "imagePullSecrets[{at}].name=\"{secret}\" is not allowed because service account {who} does not reference that imagePullSecret"
            )
            .into());
    }
    Ok(())
}

/// Whether a Pod uses any secret.
pub(super) fn uses_any(pod: &Value) -> bool {
    let mut all = SORTS.iter().flat_map(|(list, _)| containers(pod, list));
    all.any(|container| environment(container).next().is_some())
        || volumes(pod).next().is_some()
        || pulls(pod).next().is_some()
        || refers_to_a_secret(&pod["spec"]["volumes"])
}

/// Kinds of volumes name their secrets in their own ways, and all of them in fields of these names.
fn refers_to_a_secret(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(refers_to_a_secret),
        Value::Object(fields) => fields.iter().any(|(name, field)| {
            let names_one =
                matches!(name.as_str(), "secret" | "secretRef" | "secretName" | "nodePublishSecretRef");
            (names_one && !field.is_null()) || refers_to_a_secret(field)
        }),
        _ => false,
    }
}

fn volumes(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let secrets = volumes.map(|volume| &volume["secret"]).filter(|secret| !secret.is_null());
    secrets.map(|secret| secret["secretName"].as_str().unwrap_or_default())
}

fn pulls(pod: &Value) -> impl Iterator<Item = &str> {
    let pulls = pod["spec"]["imagePullSecrets"].as_array().into_iter().flatten();
    pulls.map(|pull| pull["name"].as_str().unwrap_or_default())
}

/// The secrets in a container's environment, each with what uses it.
fn environment(container: &Value) -> impl Iterator<Item = (String, &str)> {
    let is_set = |reference: &Value| !reference.is_null();
    let single = container["env"].as_array().into_iter().flatten();
    let single = single.map(|variable| (variable, &variable["valueFrom"]["secretKeyRef"]));
    let single = single.filter(move |(_, reference)| is_set(reference)).map(|(variable, reference)| {
        let variable = variable["name"].as_str().unwrap_or_default();
        (format!("envVar {variable}"), reference["name"].as_str().unwrap_or_default())
    });
    let whole = container["envFrom"].as_array().into_iter().flatten();
    let whole = whole.map(|source| &source["secretRef"]).filter(move |reference| is_set(reference));
    single
        .chain(whole.map(|reference| ("envFrom".to_owned(), reference["name"].as_str().unwrap_or_default())))
}
