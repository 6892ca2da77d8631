//! What Pod Security holds namespaces to, by a file or by a flag.

use std::path::PathBuf;

use admission::{
    AdmissionConfiguration,
    pod_security::{Level, PodSecurityConfiguration},
};
use anyhow::{Result, bail};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};

/// How Pod Security is configured.
#[derive(Args, Clone, Debug)]
pub(crate) struct PodSecurityArgs {
    /// Configuration of admission controllers: AdmissionConfiguration, or PodSecurityConfiguration by itself
    #[arg(long, value_name = "FILE")]
    admission_control_config_file: Option<PathBuf>,
    /// Level that namespaces without labels are held to, but kube-system and kube-public; baseline where nothing is
    /// said
    #[arg(long, value_name = "LEVEL", value_parser = level())]
    pod_security_default: Option<Level>,
}

fn level() -> impl TypedValueParser<Value = Level> {
    PossibleValuesParser::new(["privileged", "baseline", "restricted"]).try_map(|text| text.parse::<Level>())
}

impl PodSecurityArgs {
    /// What they say together.
    ///
    /// # Errors
    /// When the file cannot be followed, or says what the flag says too.
    pub(crate) fn read(&self) -> Result<PodSecurityConfiguration> {
        let file = self.admission_control_config_file.as_deref();
        let read = file.map(AdmissionConfiguration::from_file).transpose()?;
        match (read.and_then(|read| read.pod_security), self.pod_security_default) {
            (Some(_), Some(_)) => bail!(
                "--pod-security-default and the configuration of PodSecurity in --admission-control-config-file say the \
                 same thing: leave the flag out and write it into the file's defaults"
            ),
            (Some(configured), None) => Ok(configured),
            (None, Some(level)) => Ok(PodSecurityConfiguration::without_file(level)),
            (None, None) => Ok(PodSecurityConfiguration::default()),
        }
    }
}
