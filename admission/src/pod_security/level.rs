//! Levels of the standards, their versions, and the two together as labels write them.

use std::{fmt, str::FromStr};

/// How strict a policy is; a later one is stricter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Everything may pass.
    #[default]
    Privileged,
    /// What is known to lead to more rights may not pass.
    Baseline,
    /// Pods are to be hardened.
    Restricted,
}

/// A version of the standards: what a minor version of Kubernetes demanded, or the newest demands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// `v1.N`.
    V1(u32),
    /// The newest that is known.
    #[default]
    Latest,
}

/// A text that is no level, or no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No such level.
    #[error("must be one of privileged, baseline, restricted")]
    Level,
    /// No such version.
    #[error("must be \"latest\" or \"v1.x\"")]
    Version,
}

impl FromStr for Level {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err(ParseError::Level),
        }
    }
}

impl FromStr for Version {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").ok_or(ParseError::Version)?;
        let plain = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        let minor = minor.parse().ok().filter(|_| plain);
        minor.map(Self::V1).ok_or(ParseError::Version)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V1(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// A level of a version, written as `restricted:v1.25`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct LevelVersion {
    /// How strict.
    pub level: Level,
    /// By what version.
    pub version: Version,
}

impl LevelVersion {
    /// A level of a version.
    pub fn new(level: Level, version: Version) -> Self {
        Self { level, version }
    }

    /// Whether both demand the same: versions do not matter where nothing is demanded.
    pub fn is_equivalent(self, other: Self) -> bool {
        self == other || (self.level == Level::Privileged && other.level == Level::Privileged)
    }
}

/// `restricted`, or `restricted:v1.25`; without a version it is the newest.
impl FromStr for LevelVersion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (level, version) = text.split_once(':').unwrap_or((text, "latest"));
        Ok(Self { level: level.parse()?, version: version.parse()? })
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_latest_or_v1_with_a_plain_minor() {
        for (text, version) in [
            ("latest", Version::Latest),
            ("v1.0", Version::V1(0)),
            ("v1.37", Version::V1(37)),
            ("v1.99", Version::V1(99)),
        ] {
            assert_eq!(text.parse(), Ok(version));
            assert_eq!(version.to_string(), text);
        }
        for text in [
            "",
            "v1",
            "v1.",
            "v1.01",
            "v1.1.0",
            "v2.0",
            "1.25",
            "V1.25",
            "Latest",
            "v1.+1",
            "v1.99999999999999999999",
        ] {
            assert_eq!(text.parse::<Version>(), Err(ParseError::Version), "{text:?}");
        }
    }

    #[test]
    fn a_level_may_have_a_version() {
        for (text, shown) in [("baseline", "baseline:latest"), ("restricted:v1.25", "restricted:v1.25")] {
            assert_eq!(text.parse::<LevelVersion>().unwrap().to_string(), shown);
        }
        assert_eq!("strict:v1.1".parse::<LevelVersion>(), Err(ParseError::Level));
        assert_eq!("baseline:".parse::<LevelVersion>(), Err(ParseError::Version));
    }

    #[test]
    fn levels_are_ordered_by_strictness() {
        assert!(Level::Privileged < Level::Baseline && Level::Baseline < Level::Restricted);
        assert_eq!("Baseline".parse::<Level>(), Err(ParseError::Level));
    }
}
