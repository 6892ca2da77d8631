//! `--controllers`: which of the things that happen in a cluster by themselves happen here.

use std::{collections::BTreeSet, str::FromStr};

use api::gateway::controllers::Controller;

/// One word of the list: all (`*`) or one by its name, on, or off behind a `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    which: Option<Controller>,
    is_on: bool,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, is_on) = text.strip_prefix('-').map_or((text, true), |name| (name, false));
        if name == "*" {
            return Ok(Self { which: None, is_on });
        }
        let found = Controller::ALL.into_iter().find(|controller| controller.name() == name);
        let which = found.ok_or_else(|| {
            let names = Controller::ALL.map(Controller::name).join(", ");
            format!("{name:?} is no controller: there are * for all of them, {names}; a - before a name turns it off")
        })?;
        Ok(Self { which: Some(which), is_on })
    }
}

/// The controllers that run. A name counts more than `*`, wherever it stands.
pub(crate) fn enabled(choices: &[Choice]) -> BTreeSet<Controller> {
    let said = |which: Option<Controller>| choices.iter().rev().find(|c| c.which == which).map(|c| c.is_on);
    let all = said(None).unwrap_or(false);
    Controller::ALL.into_iter().filter(|controller| said(Some(*controller)).unwrap_or(all)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Vec<Controller> {
        let choices: Vec<Choice> = words.iter().map(|word| word.parse().unwrap()).collect();
        enabled(&choices).into_iter().collect()
    }

    #[test]
    fn names_count_more_than_all() {
        assert_eq!(read(&["*"]), Controller::ALL);
        assert_eq!(read(&["-*"]), []);
        assert_eq!(read(&["namespace-controller"]), [Controller::Namespaces]);
        assert_eq!(
            read(&["-serviceaccount-controller", "*"]),
            [Controller::Namespaces, Controller::Authority, Controller::Quotas]
        );
        assert_eq!(read(&["-*", "namespace-controller"]), [Controller::Namespaces]);
        let refused = "nodes".parse::<Choice>().unwrap_err();
        assert!(refused.contains("namespace-controller"), "{refused}");
    }
}
