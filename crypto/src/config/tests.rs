use super::*;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
const KEY: &str = "c2VjcmV0IGlzIHNlY3VyZQ==";

fn load(resources: &str) -> Result<EncryptionConfig, Refused> {
    EncryptionConfig::from_bytes(format!("{HEAD}resources: {resources}\n").as_bytes(), false)
}

/// The violations of one entry for `names` with the identity provider.
fn names(names: &str) -> Vec<String> {
    violations(&format!("[{{resources: {names}, providers: [{{identity: {{}}}}]}}]"))
}

/// The violations of one provider.
fn provider(provider: &str) -> Vec<String> {
    let prefix = "resources[0].providers[0].";
    violations(&format!("[{{resources: [secrets], providers: [{provider}]}}]"))
        .into_iter()
        .map(|text| text.strip_prefix(prefix).map(str::to_owned).unwrap_or(text))
        .collect()
}

fn violations(resources: &str) -> Vec<String> {
    match load(resources) {
        Ok(_) => Vec::new(),
        Err(Refused::Invalid(violations)) => violations.iter().map(ToString::to_string).collect(),
        Err(other) => vec![other.to_string()],
    }
}

#[test]
fn entries_resources_providers_and_keys_are_required() {
    assert_eq!(violations("[]"), ["resources: required: at least one entry"]);
    assert_eq!(
        violations("[{}]"),
        [
            "resources[0].resources: required: at least one resource",
            "resources[0].providers: required: at least one provider"
        ]
    );
    assert_eq!(
        violations("[{resources: [secrets], providers: [{}]}]"),
        ["resources[0].providers[0]: required: one of aesgcm, aescbc, secretbox, identity, kms"]
    );
    assert_eq!(
        violations(
            "[{resources: [secrets], providers: [{identity: {}}, {identity: {}, secretbox: {keys: []}}]}]"
        ),
        [
            "resources[0].providers[1]: more than one provider; each must be an element of its own",
            "resources[0].providers[1].secretbox.keys: required: at least one key"
        ]
    );
    assert_eq!(
        provider("{aescbc: {keys: [{}]}}"),
        [
            "aescbc.keys[0].name: required: the name of the key",
            "aescbc.keys[0].secret: required: the key in base64"
        ]
    );
}

#[test]
fn keys_have_a_length_that_the_provider_takes() {
    let keys = |kind: &str, len: usize| {
        let secret = KeyBytes::from(zeroize::Zeroizing::new(vec![7; len])).to_base64();
        provider(&format!("{{{kind}: {{keys: [{{name: a, secret: '{}'}}]}}}}", *secret))
    };
    for len in [16, 24, 32] {
        assert!(keys("aesgcm", len).is_empty());
        assert!(keys("aescbc", len).is_empty());
    }
    assert_eq!(keys("aescbc", 31), ["aescbc.keys[0].secret: 31 bytes, expected 16, 24 or 32"]);
    assert_eq!(keys("aesgcm", 33), ["aesgcm.keys[0].secret: 33 bytes, expected 16, 24 or 32"]);
    assert!(keys("secretbox", 32).is_empty());
    assert_eq!(keys("secretbox", 16), ["secretbox.keys[0].secret: 16 bytes, expected 32"]);
    assert_eq!(
        provider("{aesgcm: {keys: [{name: a, secret: '%%secret%%'}]}}"),
        ["aesgcm.keys[0].secret: not standard base64 (value REDACTED)"]
    );
}

#[test]
fn a_list_names_nothing_twice() {
    assert!(names("[secrets, configmaps, '*.apps', deployments.extra]").is_empty());
    let twice = "resources[0].resources: a resource is named more than once";
    let overlap = "resources[0].resources: resources overlap: one rule includes another of the same list";
    assert_eq!(names("[secrets, secrets]"), [twice]);
    assert_eq!(names("['*.apps', '*.apps']"), [twice, overlap], "as kube-apiserver tells it");
    assert_eq!(names("[secrets, '*.']"), [overlap]);
    assert_eq!(names("['*.apps', deployments.apps]"), [overlap]);
    assert_eq!(names("['*.*', secrets]"), [overlap]);
    assert_eq!(names("[secrets, secrets, '*.']"), [twice, overlap]);
}

#[test]
fn names_that_store_nothing_are_refused() {
    for name in [
        "Secrets",
        "*",
        "apiserveripinfo",
        "serviceipallocations",
        "servicenodeportallocations",
        "events.events.k8s.io",
        "*.events.k8s.io",
        "ingresses.extensions",
        "secrets.*",
    ] {
        let violations = names(&format!("[pods.example, '{name}']"));
        assert_eq!(violations.len(), 1, "{name}: {violations:?}");
        assert!(violations[0].starts_with(&format!("resources[0].resources[1]: {name:?}: ")));
    }
    assert!(names("['*.*']").is_empty());
}

#[test]
fn bodies_of_events_are_sealed_or_not_named() {
    let aes = format!("{{aesgcm: {{keys: [{{name: a, secret: {KEY}}}]}}}}");
    let entry = |names: &str, providers: &str| format!("{{resources: {names}, providers: [{providers}]}}");
    let clear = format!("{aes}, {{identity: {{}}}}");
    let names_bodies = |resources: &str| {
        let config = load(&format!("[{resources}]")).unwrap();
        crate::EncryptionTransformer::from_config(config).unwrap().names(crate::BODIES)
    };
    assert!(names_bodies(&entry("[secrets, events.muniment.io]", &clear)));
    assert!(!names_bodies(&entry("['*.*']", &aes)));
    assert!(!names_bodies(&entry("['*.muniment.io']", &aes)));
    let refused = violations(&format!(
        "[{}, {}, {}]",
        entry("[secrets]", "{identity: {}}"),
        entry("[events.muniment.io]", "{identity: {}}"),
        entry("[events.muniment.io]", &aes)
    ));
    assert_eq!(
        refused,
        ["resources[1].providers[0].identity: the first provider of events.muniment.io must encrypt; \
          leave events.muniment.io out to keep bodies in the clear"]
    );
}

#[test]
fn a_rule_behind_one_that_includes_it_is_refused() {
    let entries = |rules: &[&str]| {
        let entry = |rule: &&str| format!("{{resources: ['{rule}'], providers: [{{identity: {{}}}}]}}");
        violations(&format!("[{}]", rules.iter().map(entry).collect::<Vec<_>>().join(", ")))
    };
    assert!(entries(&["secrets", "secrets", "*.", "*.*"]).is_empty());
    assert_eq!(
        entries(&["*.", "secrets"]),
        ["resources[1].resources[0]: \"secrets\" is masked by the earlier rule \"*.\""]
    );
    assert_eq!(
        entries(&["*.apps", "*.apps"]),
        ["resources[1].resources[0]: \"*.apps\" is masked by the earlier rule \"*.apps\""]
    );
    assert_eq!(
        entries(&["*.*", "deployments.apps"]),
        ["resources[1].resources[0]: \"deployments.apps\" is masked by the earlier rule \"*.*\""]
    );
}

#[test]
fn a_kms_plugin_keeps_to_its_rules() {
    let kms = |fields: &str| provider(&format!("{{kms: {{{fields}}}}}"));
    let good = "name: p, endpoint: 'unix:///p.sock', apiVersion: v2";
    assert!(kms(good).is_empty());
    assert!(kms("name: 'p:q', endpoint: 'unix:///p.sock'").is_empty(), "version 1 takes colons");
    assert_eq!(
        kms("name: 'p:q', endpoint: 'unix:///p.sock', apiVersion: v2"),
        ["kms.name: \"p:q\" must not contain \":\""]
    );
    assert_eq!(
        kms("apiVersion: v2"),
        [
            "kms.name: required: the name of the plugin",
            "kms.endpoint: required: the plugin's socket, as unix:///path"
        ]
    );
    assert_eq!(kms(&format!("{good}, timeout: 0s")), ["kms.timeout: \"0s\" must be more than zero"]);
    assert_eq!(kms(&format!("{good}, timeout: -3s")), ["kms.timeout: \"-3s\" must be more than zero"]);
    assert_eq!(kms(&format!("{good}, timeout: '3'")), ["kms.timeout: \"3\" is no duration such as \"3s\""]);
    assert_eq!(kms(&format!("{good}, cachesize: 5")), ["kms.cachesize: is not supported in v2"]);
    assert_eq!(
        kms("name: p, endpoint: 'unix:///p.sock', cachesize: 0"),
        ["kms.cachesize: must be more than zero, or negative to keep nothing"]
    );
    assert_eq!(
        kms("name: p, apiVersion: v2, endpoint: 'http:///p.sock'"),
        ["kms.endpoint: scheme \"http\" is not supported, only unix"]
    );
    assert_eq!(
        kms("name: p, apiVersion: v3, endpoint: 'unix:///p.sock'"),
        ["kms.apiVersion: \"v3\" is not supported, only v1 and v2"]
    );
}

#[test]
fn plugins_have_names_of_their_own() {
    let two = |first: &str, second: &str, reload| {
        let plugin = |version| format!("{{kms: {{name: p, endpoint: 'unix:///p', apiVersion: {version}}}}}");
        let text = format!(
            "{HEAD}resources: [{{resources: [a], providers: [{}, {}]}}]",
            plugin(first),
            plugin(second)
        );
        EncryptionConfig::from_bytes(text.as_bytes(), reload).map(|_| ()).map_err(|e| e.to_string())
    };
    let refused = "resources[0].providers[1].kms.name: \"p\" is the name of an earlier plugin".to_owned();
    assert_eq!(two("v1", "v1", false), Ok(()));
    assert_eq!(two("v1", "v1", true), Err(refused.clone()));
    assert_eq!(two("v1", "v2", false), Err(refused.clone()));
    assert_eq!(two("v2", "v1", false), Ok(()));
    assert_eq!(two("v2", "v2", false), Err(refused));
}

#[test]
fn a_socket_is_a_path_or_an_abstract_name() {
    let socket = |endpoint: &str| {
        let text = format!(
            "[{{resources: [a], providers: [{{kms: {{name: p, apiVersion: v2, endpoint: '{endpoint}'}}}}]}}]"
        );
        let config = load(&text).unwrap();
        let ProviderConfig::Kms(plugin) = &config.entries[0].providers[0] else { panic!("not a kms") };
        plugin.socket.clone()
    };
    assert_eq!(socket("unix:///run/kms.sock"), "/run/kms.sock");
    assert_eq!(socket("unix:///@kms"), "@kms");
    assert_eq!(socket("unix://host/run/kms.sock"), "/run/kms.sock");
    assert_eq!(socket("unix:/run/kms.sock?x"), "/run/kms.sock");
}

#[test]
fn a_flaw_of_the_form_has_its_place_and_no_key() {
    let refused = |rest: &str| load(rest).unwrap_err().to_string();
    assert_eq!(
        refused("\n- resources: [secrets]\n  provider: []"),
        "5:3: unknown field \"provider\"; did you mean \"providers\"?"
    );
    assert_eq!(
        refused(&format!("[{{resources: [a], providers: [{{aesgcm: {{name: a, secret: {KEY}}}}}]}}]")),
        "3:52: unknown field \"name\"; did you mean \"keys\"?"
    );
    let misplaced = refused(&format!("[{{resources: [a], providers: [{{aesgcm: {{keys: {KEY}}}}}]}}]"));
    assert!(!misplaced.contains(KEY), "{misplaced}");
    assert_eq!(
        EncryptionConfig::from_bytes(b"", false).unwrap_err().to_string(),
        "the encryption configuration is empty"
    );
}

#[test]
fn a_configuration_is_shown_without_its_keys() {
    let config = load(&format!(
        "[{{resources: [a], providers: [{{aesgcm: {{keys: [{{name: k, secret: {KEY}}}]}}}}]}}]"
    ))
    .unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("REDACTED") && !shown.contains(KEY), "{shown}");
    assert!(!shown.contains("115, 101"), "not as numbers either: {shown}");
}

#[test]
fn a_file_that_others_can_open_is_refused_unless_that_is_wanted() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("enc.yaml");
    let text = format!("{HEAD}resources: [{{resources: [a], providers: [{{identity: {{}}}}]}}]\n");
    std::fs::write(&path, text).unwrap();
    for mode in [0o644, 0o640, 0o602, 0o601] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = EncryptionConfig::from_file(&path, Readers::Owner, false).unwrap_err();
        assert!(matches!(error, LoadError::Exposed { mode: m, .. } if m == mode), "{error}");
        EncryptionConfig::from_file(&path, Readers::Anybody, false).unwrap();
    }
    for mode in [0o600, 0o400] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        EncryptionConfig::from_file(&path, Readers::Owner, false).unwrap();
    }
}
