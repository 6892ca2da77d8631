//! The security context of a Pod or of a container.

use serde::Deserialize;

use super::Field;

/// What a Pod and its containers may set alike; each field is looked at only where Kubernetes has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityContext<'a> {
    /// All of the node's rights.
    #[serde(default)]
    pub privileged: Field<bool>,
    /// May a process gain more rights than its parent?
    #[serde(default)]
    pub allow_privilege_escalation: Field<bool>,
    /// Must the user be another than root?
    #[serde(default)]
    pub run_as_non_root: Field<bool>,
    /// The user's number.
    #[serde(default)]
    pub run_as_user: Field<i64>,
    /// How /proc is mounted.
    #[serde(borrow, default)]
    pub proc_mount: Field<&'a str>,
    /// Capabilities that are added and dropped.
    #[serde(borrow, default)]
    pub capabilities: Field<Capabilities<'a>>,
    /// The AppArmor profile.
    #[serde(borrow, default)]
    pub app_armor_profile: Field<Profile<'a>>,
    /// The seccomp profile.
    #[serde(borrow, default)]
    pub seccomp_profile: Field<Profile<'a>>,
    /// The SELinux label.
    #[serde(borrow, default)]
    pub se_linux_options: Field<SeLinux<'a>>,
    /// What Windows knows.
    #[serde(default)]
    pub windows_options: Field<Windows>,
    /// Settings of the kernel.
    #[serde(borrow, default)]
    pub sysctls: Field<Vec<Sysctl<'a>>>,
}

/// Capabilities that are added and dropped.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Capabilities<'a> {
    #[serde(borrow, default)]
    add: Field<Vec<&'a str>>,
    #[serde(borrow, default)]
    drop: Field<Vec<&'a str>>,
}

impl<'a> Capabilities<'a> {
    /// Those that are added.
    pub fn added(&self) -> &[&'a str] {
        self.add.as_deref().unwrap_or_default()
    }

    /// Those that are dropped.
    pub fn dropped(&self) -> &[&'a str] {
        self.drop.as_deref().unwrap_or_default()
    }
}

/// A profile of AppArmor or seccomp.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Profile<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Field<&'a str>,
}

impl<'a> Profile<'a> {
    /// The type, or "".
    pub fn kind(&self) -> &'a str {
        self.kind.unwrap_or_default()
    }
}

/// An SELinux label.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SeLinux<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Field<&'a str>,
    #[serde(borrow, default)]
    user: Field<&'a str>,
    #[serde(borrow, default)]
    role: Field<&'a str>,
}

impl<'a> SeLinux<'a> {
    /// The type, or "".
    pub fn kind(&self) -> &'a str {
        self.kind.unwrap_or_default()
    }

    /// Whether a user is set.
    pub fn sets_user(&self) -> bool {
        self.user.is_some_and(|user| !user.is_empty())
    }

    /// Whether a role is set.
    pub fn sets_role(&self) -> bool {
        self.role.is_some_and(|role| !role.is_empty())
    }
}

/// What Windows knows.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Windows {
    /// Runs on the node itself.
    #[serde(default)]
    pub host_process: Field<bool>,
}

/// A setting of the kernel.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Sysctl<'a> {
    #[serde(borrow, default)]
    name: Field<&'a str>,
}

impl<'a> Sysctl<'a> {
    /// The setting's name.
    pub fn name(&self) -> &'a str {
        self.name.unwrap_or_default()
    }
}
