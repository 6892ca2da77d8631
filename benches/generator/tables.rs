//! The measured counts: which requests there are and who makes them.

use super::{
    draw::Draw,
    text::{hex_id, num, put},
};

/// Requests of the recorded run, counted: each row is a combination that occurred and the sizes of its bodies.
const REQUESTS: &str = include_str!("requests.tsv");
/// Callers of the recorded run with their groups, and how often they showed which user agent.
const CALLERS: &str = include_str!("callers.tsv");

/// Everything that is drawn from.
pub(super) struct Tables {
    pub(super) requests: Vec<Request>,
    pub(super) callers: Vec<Caller>,
    /// Index of a request for each time it was counted, so that a draw is one look-up.
    tickets: Vec<u16>,
}

/// A combination that occurred.
pub(super) struct Request {
    pub(super) caller: usize,
    pub(super) verb: String,
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) namespaced: bool,
    pub(super) named: bool,
    pub(super) level: &'static str,
    pub(super) stages: Vec<&'static str>,
    pub(super) code: u64,
    pub(super) request_kind: String,
    pub(super) request_bytes: Vec<(u64, u32)>,
    pub(super) response_kind: String,
    pub(super) response_bytes: Vec<(u64, u32)>,
}

/// Someone who makes requests.
pub(super) struct Caller {
    pub(super) name: String,
    groups: Vec<String>,
    pub(super) agents: Vec<(String, u64)>,
    number: u64,
}

impl Tables {
    /// Reads the tables; they are part of the program, so a row that does not read is a mistake in them.
    pub(super) fn measured() -> Self {
        let callers = callers();
        let (mut requests, mut tickets) = (Vec::new(), Vec::new());
        for line in rows(REQUESTS) {
            let column: Vec<&str> = line.split('\t').collect();
            let count: usize = column[0].parse().expect("a count");
            tickets.extend(std::iter::repeat_n(requests.len() as u16, count));
            requests.push(request(&column, &callers));
        }
        Self { requests, callers, tickets }
    }

    pub(super) fn pick(&self, draw: &mut Draw) -> usize {
        usize::from(self.tickets[draw.below(self.tickets.len() as u64) as usize])
    }
}

fn rows(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

fn callers() -> Vec<Caller> {
    let mut callers: Vec<Caller> = Vec::new();
    for line in rows(CALLERS) {
        let column: Vec<&str> = line.split('\t').collect();
        let agent = (column[3].to_owned(), column[0].parse().expect("a count"));
        match callers.iter_mut().find(|caller| caller.name == column[1]) {
            Some(caller) => caller.agents.push(agent),
            None => callers.push(Caller {
                name: column[1].to_owned(),
                groups: column[2].split(',').map(str::to_owned).collect(),
                agents: vec![agent],
                number: callers.len() as u64,
            }),
        }
    }
    callers
}

fn request(column: &[&str], callers: &[Caller]) -> Request {
    let text = |n: usize| if column[n] == "-" { String::new() } else { column[n].to_owned() };
    Request {
        caller: callers
            .iter()
            .position(|caller| caller.name == column[1])
            .expect("a caller of the other table"),
        verb: text(2),
        group: text(3),
        version: text(4),
        resource: text(5),
        subresource: text(6),
        namespaced: column[7].starts_with('n'),
        named: column[7].ends_with('1'),
        level: match column[8] {
            "Metadata" => "Metadata",
            "Request" => "Request",
            _ => "RequestResponse",
        },
        stages: column[9].chars().map(stage).collect(),
        code: column[10].parse().expect("a status code"),
        request_kind: column[11].to_owned(),
        request_bytes: sizes(column[12]),
        response_kind: column[13].to_owned(),
        response_bytes: sizes(column[14]),
    }
}

fn stage(letter: char) -> &'static str {
    match letter {
        'R' => "RequestReceived",
        'S' => "ResponseStarted",
        _ => "ResponseComplete",
    }
}

/// `1180x9,1200` as counts and sizes.
fn sizes(list: &str) -> Vec<(u64, u32)> {
    if list == "-" {
        return Vec::new();
    }
    list.split(',')
        .map(|entry| {
            let (size, count) = entry.split_once('x').unwrap_or((entry, "1"));
            (count.parse().expect("a count"), size.parse().expect("a size"))
        })
        .collect()
}

impl Caller {
    pub(super) fn pick_agent(&self, draw: &mut Draw) -> usize {
        let mut left = draw.below(self.agents.iter().map(|(_, count)| count).sum());
        self.agents
            .iter()
            .position(|(_, count)| {
                let hit = left < *count;
                left = left.saturating_sub(*count);
                hit
            })
            .unwrap_or(0)
    }

    /// Controllers sit on the control plane; people come from a few hundred addresses.
    pub(super) fn address(&self, draw: &mut Draw) -> u32 {
        if self.name.starts_with("system:") {
            0x0a00_0001 + draw.below(3) as u32
        } else {
            0x0a14_0000 + (self.number as u32 * 16 + draw.below(16) as u32)
        }
    }

    pub(super) fn write_user(&self, credential: u64, out: &mut Vec<u8>) {
        if self.name == "-" {
            put!(out, "{}");
            return;
        }
        put!(out, r#"{"username":""#, &self.name, "\"");
        if self.is_service_account() {
            put!(out, r#","uid":""#);
            hex_id((Draw::new(self.number).next(), self.number), out);
            out.push(b'"');
        } else if !self.name.starts_with("system:") {
            put!(out, r#","uid":"u-"#);
            num(1_000 + self.number, out);
            out.push(b'"');
        }
        put!(out, r#","groups":["#);
        for (i, group) in self.groups.iter().enumerate() {
            put!(out, if i == 0 { "\"" } else { ",\"" }, group, "\"");
        }
        out.push(b']');
        if self.is_service_account() {
            put!(out, r#","extra":{"authentication.kubernetes.io/credential-id":["JTI="#);
            hex_id((Draw::new(credential).next(), Draw::new(!credential).next()), out);
            put!(out, r#""]}"#);
        }
        out.push(b'}');
    }

    fn is_service_account(&self) -> bool {
        self.name.starts_with("system:serviceaccount:")
    }

    pub(super) fn write_decision(&self, code: u64, out: &mut Vec<u8>) {
        let forbidden = code == 403;
        put!(
            out,
            r#","annotations":{"authorization.k8s.io/decision":""#,
            if forbidden { "forbid" } else { "allow" }
        );
        put!(out, r#"","authorization.k8s.io/reason":""#);
        if !forbidden {
            self.write_reason(out);
        }
        put!(out, "\"}");
    }

    fn write_reason(&self, out: &mut Vec<u8>) {
        if let Some(account) = self.name.strip_prefix("system:serviceaccount:") {
            let (namespace, name) = account.split_once(':').unwrap_or(("default", account));
            put!(out, r#"RBAC: allowed by ClusterRoleBinding \"system:controller:"#, name);
            put!(out, r#"\" of ClusterRole \"system:controller:"#, name);
            put!(out, r#"\" to ServiceAccount \""#, name, "/", namespace, r#"\""#);
        } else if !self.groups.iter().any(|group| group == "system:masters") {
            put!(
                out,
                r#"RBAC: allowed by RoleBinding \"deploy/staging\" of ClusterRole \"deployer\" to User \""#
            );
            put!(out, &self.name, r#"\""#);
        }
    }
}
