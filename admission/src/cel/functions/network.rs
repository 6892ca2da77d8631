//! Addresses and ranges of them.

use std::{any::Any, net::IpAddr};

use cel::{
    DeclarationError, Env, ExecutionError,
    common::{
        types::{CelBool, CelInt, CelString, STRING_TYPE, Type},
        value::{CowVal, StaticVal, Val},
    },
};

use super::{Outcome, arg, global, member, text};

/// An address.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cel) struct Ip(IpAddr);

/// A range.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cel) struct Cidr {
    address: IpAddr,
    bits: u8,
}

static IP: Type = Type::new_unspecified_type("net.IP");
static CIDR: Type = Type::new_unspecified_type("net.CIDR");

macro_rules! value {
    ($name:ident, $kind:ident) => {
        impl Val for $name {
            fn get_type(&self) -> &Type {
                Self::cel_type()
            }

            fn cel_type() -> &'static Type {
                &$kind
            }

            fn equals(&self, other: &dyn Val) -> bool {
                other.downcast_ref::<Self>().is_some_and(|other| self == other)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }

        impl StaticVal for $name {}
    };
}

value!(Ip, IP);
value!(Cidr, CIDR);

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(IP.to_owned())?;
    env.add_type(CIDR.to_owned())?;
    let (ip, cidr) = (|| IP.to_owned(), || CIDR.to_owned());
    global!(env, "ip", [STRING_TYPE], |args| Ok(CowVal::owned(Ip(address(text(&args, 0)?)?))));
    global!(env, "isIP", [STRING_TYPE], |args| flag(address(text(&args, 0)?).is_ok()));
    global!(env, "ip.isCanonical", [STRING_TYPE], |args| {
        let written = text(&args, 0)?;
        flag(address(written)?.to_string() == written)
    });
    global!(env, "string", [ip()], |args| words(arg::<Ip>(&args, 0)?.0.to_string()));
    member!(env, "family", ip(), [], |args| {
        Ok(CowVal::owned(CelInt::from(if arg::<Ip>(&args, 0)?.0.is_ipv4() { 4 } else { 6 })))
    });
    member!(env, "isUnspecified", ip(), [], |args| flag(arg::<Ip>(&args, 0)?.0.is_unspecified()));
    member!(env, "isLoopback", ip(), [], |args| flag(arg::<Ip>(&args, 0)?.0.is_loopback()));
    member!(env, "isLinkLocalMulticast", ip(), [], |args| {
        flag(match arg::<Ip>(&args, 0)?.0 {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        })
    });
    member!(env, "isLinkLocalUnicast", ip(), [], |args| {
        flag(match arg::<Ip>(&args, 0)?.0 {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        })
    });
    member!(env, "isGlobalUnicast", ip(), [], |args| {
        let ip = arg::<Ip>(&args, 0)?.0;
        let is_local = match ip {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        flag(!is_local && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast())
    });
    global!(env, "cidr", [STRING_TYPE], |args| Ok(CowVal::owned(range(text(&args, 0)?)?)));
    global!(env, "isCIDR", [STRING_TYPE], |args| flag(range(text(&args, 0)?).is_ok()));
    global!(env, "string", [cidr()], |args| {
        let range = arg::<Cidr>(&args, 0)?;
        words(format!("{}/{}", range.address, range.bits))
    });
    member!(env, "containsIP", cidr(), [ip()], |args| flag(holds(arg(&args, 0)?, arg::<Ip>(&args, 1)?.0)));
    member!(env, "containsIP", cidr(), [STRING_TYPE], |args| flag(holds(
        arg(&args, 0)?,
        address(text(&args, 1)?)?
    )));
    member!(env, "containsCIDR", cidr(), [cidr()], |args| {
        let (outer, inner) = (arg::<Cidr>(&args, 0)?, arg::<Cidr>(&args, 1)?);
        flag(outer.bits <= inner.bits && holds(outer, inner.address))
    });
    member!(env, "containsCIDR", cidr(), [STRING_TYPE], |args| {
        let (outer, inner) = (arg::<Cidr>(&args, 0)?, range(text(&args, 1)?)?);
        flag(outer.bits <= inner.bits && holds(outer, inner.address))
    });
    member!(env, "ip", cidr(), [], |args| Ok(CowVal::owned(Ip(arg::<Cidr>(&args, 0)?.address))));
    member!(env, "prefixLength", cidr(), [], |args| {
        Ok(CowVal::owned(CelInt::from(i64::from(arg::<Cidr>(&args, 0)?.bits))))
    });
    member!(env, "masked", cidr(), [], |args| {
        let range = arg::<Cidr>(&args, 0)?;
        Ok(CowVal::owned(Cidr { address: masked(range.address, range.bits), bits: range.bits }))
    });
    Ok(())
}

fn flag<'b, 'v>(flag: bool) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelBool::from(flag)))
}

fn words<'b, 'v>(text: String) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelString::from(text)))
}

fn wrong(function: &str, what: &str, text: &str) -> ExecutionError {
    ExecutionError::function_error(function, format!("{what} {text:?} is not valid"))
}

/// Zones and IPv4 addresses inside IPv6 ones are not taken.
fn address(text: &str) -> Result<IpAddr, ExecutionError> {
    let parsed = text.parse::<IpAddr>().ok();
    let parsed = parsed.filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()));
    parsed.ok_or_else(|| wrong("ip", "IP Address", text))
}

fn range(text: &str) -> Result<Cidr, ExecutionError> {
    let bad = || wrong("cidr", "network address", text);
    let (ip, bits) = text.split_once('/').ok_or_else(bad)?;
    let (address, digits) = (address(ip).map_err(|_| bad())?, bits.bytes().all(|b| b.is_ascii_digit()));
    let bits: u8 = bits.parse().ok().filter(|_| digits).ok_or_else(bad)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if bits > most { Err(bad()) } else { Ok(Cidr { address, bits }) }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            IpAddr::V4((u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into())
        }
    }
}

fn holds(range: &Cidr, ip: IpAddr) -> bool {
    range.address.is_ipv4() == ip.is_ipv4() && masked(range.address, range.bits) == masked(ip, range.bits)
}
