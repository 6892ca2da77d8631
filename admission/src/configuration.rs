//! The file that configures controllers: kube-apiserver's `AdmissionConfiguration`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use manifest::{Form, Head, Refused, Violation};
use serde::{Deserialize, de::IgnoredAny};
use serde_saphyr::Spanned;

use crate::{
    chain::{PluginError, known_plugin},
    pod_security::{PodSecurityConfiguration, configuration},
};

/// The largest file.
const MAX_BYTES: u64 = 1024 * 1024;

const KIND: &str = "AdmissionConfiguration";

const FORM: Form = Form {
    what: "admission configuration",
    kinds: &[("apiserver.config.k8s.io/v1", KIND), ("apiserver.k8s.io/v1alpha1", KIND)],
    max_bytes: MAX_BYTES as usize,
    places: &[
        ("the configuration", &["plugins"]),
        ("an entry of plugins", &["name", "path", "configuration"]),
        ("the configuration of PodSecurity", &["defaults", "exemptions"]),
    ],
    confidential: false,
};

/// Either of the two kinds that a file may be.
const EITHER: Form = Form {
    kinds: &[
        ("apiserver.config.k8s.io/v1", KIND),
        ("apiserver.k8s.io/v1alpha1", KIND),
        ("pod-security.admission.config.k8s.io/v1", configuration::KIND),
        ("pod-security.admission.config.k8s.io/v1beta1", configuration::KIND),
        ("pod-security.admission.config.k8s.io/v1alpha1", configuration::KIND),
    ],
    ..FORM
};

/// What a file says of controllers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdmissionConfiguration {
    /// How Pod Security is configured; nothing where the file does not say.
    pub pod_security: Option<PodSecurityConfiguration>,
}

/// A file that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// It cannot be read.
    #[error("cannot read the admission configuration {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("cannot use the admission configuration {}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Refused,
    },
}

impl AdmissionConfiguration {
    /// Reads an `AdmissionConfiguration`, or a `PodSecurityConfiguration` by itself. What configures a controller
    /// stands in the file or behind a path, which is taken from the file's own folder.
    ///
    /// # Errors
    /// When a file cannot be read, has a flaw, or configures what cannot be configured here: nothing is passed over.
    pub fn from_file(path: &Path) -> Result<Self, ConfigurationError> {
        let bytes = bytes(path)?;
        let refused = |source| ConfigurationError::Refused { path: path.to_owned(), source };
        if kind(&bytes).map_err(refused)? == configuration::KIND {
            let pod_security = PodSecurityConfiguration::from_bytes(&bytes).map_err(refused)?;
            return Ok(Self { pod_security: Some(pod_security) });
        }
        match plugins(&bytes).map_err(refused)? {
            None => Ok(Self::default()),
            Some(Source::Inline(pod_security)) => Ok(Self { pod_security: Some(pod_security) }),
            Some(Source::Path(named)) => {
                let path = path.parent().unwrap_or(Path::new("")).join(named);
                let read = PodSecurityConfiguration::from_bytes(&self::bytes(&path)?);
                let read = read.map_err(|source| ConfigurationError::Refused { path, source })?;
                Ok(Self { pod_security: Some(read) })
            }
        }
    }
}

/// A file's bytes, at most one more than it may have.
fn bytes(path: &Path) -> Result<Vec<u8>, ConfigurationError> {
    use io::Read;
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|source| ConfigurationError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Where the configuration of Pod Security is.
enum Source {
    Inline(PodSecurityConfiguration),
    Path(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Text<C> {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    plugins: Option<Vec<PluginText<C>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginText<C> {
    name: Spanned<String>,
    path: Option<String>,
    configuration: Option<C>,
}

fn kind(bytes: &[u8]) -> Result<String, Refused> {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    manifest::read::<Kind>(&EITHER, bytes).map(|text| text.kind)
}

/// What the entry for Pod Security says; none where there is no such entry.
fn plugins(bytes: &[u8]) -> Result<Option<Source>, Refused> {
    // First of whom it speaks, so that the configuration of another controller is refused as that.
    let heads = manifest::read::<Text<Spanned<Head>>>(&FORM, bytes)?;
    for plugin in heads.plugins.iter().flatten() {
        configurable(&plugin.name)?;
        if let Some(head) = &plugin.configuration {
            let at = head.referenced;
            head.value.check(&configuration::FORM, at.line(), at.column())?;
        }
    }
    let text = manifest::read::<Text<configuration::Text>>(&FORM, bytes)?;
    let mut plugins = text.plugins.unwrap_or_default().into_iter();
    let Some(plugin) = plugins.next() else { return Ok(None) };
    let invalid = |path: &str, message: &str| {
        let violation = Violation { path: path.to_owned(), message: message.to_owned() };
        Err(Refused::Invalid(vec![violation]))
    };
    if plugins.next().is_some() {
        return invalid("plugins[1].name", "PodSecurity is configured twice");
    }
    match (plugin.path.filter(|path| !path.is_empty()), plugin.configuration) {
        (Some(_), Some(_)) => invalid("plugins[0]", "has both a path and a configuration"),
        (None, None) => invalid("plugins[0]", "has neither a path nor a configuration"),
        (Some(path), None) => Ok(Some(Source::Path(path))),
        (None, Some(text)) => {
            let checked = text.checked("plugins[0].configuration.").map_err(Refused::Invalid)?;
            Ok(Some(Source::Inline(checked)))
        }
    }
}

/// Whether a controller is one that a file configures.
fn configurable(name: &Spanned<String>) -> Result<(), Refused> {
    let message = match known_plugin(&name.value) {
        Ok("PodSecurity") => return Ok(()),
        Ok(other) => format!("{other} takes no configuration here; only PodSecurity does"),
        Err(unknown @ PluginError::Unknown { .. }) => unknown.to_string(),
        Err(other) => other.to_string(),
    };
    let (line, column) = (name.referenced.line(), name.referenced.column());
    Err(Refused::Malformed { line, column, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";

    fn inline(name: &str, rest: &str) -> String {
        format!(
            "{HEAD}plugins:\n- name: {name}\n  configuration:\n    \
             apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n{rest}"
        )
    }

    fn refused(text: &str) -> String {
        match plugins(text.as_bytes()) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => error.to_string(),
        }
    }

    fn level(configuration: &PodSecurityConfiguration) -> String {
        configuration.defaults.enforce.to_string()
    }

    #[test]
    fn what_configures_pod_security_stands_inline_or_behind_a_path() {
        let folder = std::env::temp_dir().join(format!("admission-configuration-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).unwrap();
            file
        };
        let own = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
                   defaults: {enforce: restricted}\n";
        let alone = write("pod-security.yaml", own);
        let by_path = write(
            "by-path.yaml",
            &format!("{HEAD}plugins: [{{name: PodSecurity, path: pod-security.yaml}}]\n"),
        );
        let json = r#"{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [
            {"name": "PodSecurity", "configuration": {"apiVersion": "pod-security.admission.config.k8s.io/v1",
             "kind": "PodSecurityConfiguration", "defaults": {"enforce": "restricted"}}}]}"#;
        let inline = write("inline.json", json);
        for file in [&alone, &by_path, &inline] {
            let read = AdmissionConfiguration::from_file(file).unwrap();
            assert_eq!(level(&read.pod_security.unwrap()), "restricted:latest", "{}", file.display());
        }
        let none = write("none.yaml", HEAD);
        assert_eq!(AdmissionConfiguration::from_file(&none).unwrap(), AdmissionConfiguration::default());
        let lost =
            write("lost.yaml", &format!("{HEAD}plugins: [{{name: PodSecurity, path: absent.yaml}}]\n"));
        let error = AdmissionConfiguration::from_file(&lost).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("cannot read the admission configuration {}", folder.join("absent.yaml").display())
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_typo_is_an_error_with_its_place_in_the_file() {
        for (text, expected) in [
            (
                inline("PodSecurity", "    defalts: {}\n"),
                "8:5: unknown field \"defalts\"; did you mean \"defaults\"?",
            ),
            (
                inline("PodSecurty", ""),
                "4:9: unknown admission plugin \"PodSecurty\"; did you mean \"PodSecurity\"?",
            ),
            (
                inline("EventRateLimit", ""),
                "4:9: EventRateLimit takes no configuration here; only PodSecurity does",
            ),
            (
                format!("{HEAD}plugins: [{{name: PodSecurity, pth: x}}]\n"),
                "3:31: unknown field \"pth\"; did you mean \"path\"?",
            ),
            (
                inline("PodSecurity", "    defaults: {enforce: strict}\n"),
                "plugins[0].configuration.defaults.enforce: \"strict\": must be one of privileged, baseline, restricted",
            ),
            (
                format!("{HEAD}plugins: [{{name: PodSecurity}}]\n"),
                "plugins[0]: has neither a path nor a configuration",
            ),
        ] {
            assert_eq!(refused(&text), expected, "{text}");
        }
        let other = inline("PodSecurity", "").replace("kind: PodSecurityConfiguration", "kind: PodSecurity");
        assert_eq!(
            refused(&other),
            "7:11: kind is \"PodSecurity\", but only \"PodSecurityConfiguration\" is supported"
        );
    }
}
