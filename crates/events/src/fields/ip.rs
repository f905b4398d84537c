//! `ip`: an IPv4 or IPv6 address in its strict text form, written canonically; what kind of address it is; its prefix.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::event::{IpClass, IpPrefix};
use crate::inline::InlineText;
use crate::json::Value;
use crate::reason::{Field, RejectReason, Rejection};

/// The longest canonical text, eight groups of four digits.
const MAX_TEXT_LEN: usize = 39;

/// The rule of `ip`: the address and its canonical text.
pub(crate) fn ip(value: Value<'_>) -> Result<(IpAddr, Cow<'_, str>), Rejection> {
    let text = super::required_text(value, Field::Ip, RejectReason::BadIp)?;
    // The strict form of an IPv4 address is its canonical one already: the usual address is not written again.
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok((IpAddr::V4(address), text));
    }
    let address: Ipv6Addr = text.parse().map_err(|_| {
        Rejection::field(
            RejectReason::BadIp,
            Field::Ip,
            "must be an IPv4 or IPv6 address in its strict form, without a zone or a port",
        )
    })?;
    // An IPv4-mapped address is the IPv4 address.
    let address = address.to_canonical();
    let canonical = inline_text_of(address);
    let text = if *canonical == *text {
        text
    } else {
        Cow::Owned(canonical.to_string())
    };
    Ok((address, text))
}

fn inline_text_of(address: IpAddr) -> InlineText<MAX_TEXT_LEN> {
    let mut text = InlineText::new();
    write!(text, "{address}").expect("the longest address fits");
    text
}

/// The canonical text of an address (RFC 5952 for IPv6).
pub(crate) fn text_of(address: IpAddr) -> String {
    inline_text_of(address).to_string()
}

/// The /24 of an IPv4, the /48 of an IPv6, as text; `text` is the address's canonical one.
pub(crate) fn prefix_of(address: IpAddr, text: &str) -> IpPrefix {
    let mut prefix = IpPrefix::new();
    match address {
        IpAddr::V4(_) => {
            let network = &text[..text.rfind('.').map_or(0, |last_dot| last_dot + 1)];
            prefix.write_str(network).and_then(|()| prefix.write_str("0/24"))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            write!(prefix, "{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
    .expect("the longest prefix fits");
    prefix
}

/// What kind of address it is, after the special-purpose address registries of IANA.
pub(crate) fn class_of(address: IpAddr) -> IpClass {
    match address {
        IpAddr::V4(address) => class_of_v4(address),
        IpAddr::V6(address) => class_of_v6(address),
    }
}

fn class_of_v4(address: Ipv4Addr) -> IpClass {
    match address.octets() {
        [127, ..] => IpClass::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => IpClass::Private,
        [169, 254, ..] => IpClass::LinkLocal,
        [224..=239, ..] => IpClass::Multicast,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => IpClass::Documentation,
        // This network, shared (carrier-grade NAT), protocol assignments, 6to4 relays, benchmarks, future use.
        [0, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [240..=255, ..] => IpClass::Reserved,
        _ => IpClass::Public,
    }
}

fn class_of_v6(address: Ipv6Addr) -> IpClass {
    if address.is_loopback() {
        return IpClass::Loopback;
    }
    match address.segments() {
        [0xfc00..=0xfdff, ..] => IpClass::Private,
        [0xfe80..=0xfebf, ..] => IpClass::LinkLocal,
        [0xff00..=0xffff, ..] => IpClass::Multicast,
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => IpClass::Documentation,
        // The well-known prefix of NAT64 stands for a public IPv4.
        [0x0064, 0xff9b, 0, 0, 0, 0, ..] => IpClass::Public,
        // Protocol assignments (Teredo, benchmarks, ORCHID) and 6to4.
        [0x2001, 0..=0x01ff, ..] | [0x2002, ..] => IpClass::Reserved,
        [0x2000..=0x3fff, ..] => IpClass::Public,
        // Global unicast is 2000::/3; the rest is the unspecified address, 100::/64 and what nobody was given yet.
        _ => IpClass::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_classified_at_the_edges_of_every_range() {
        use IpClass::*;
        for (text, expected) in [
            ("108.228.145.239", Public),
            ("0.0.0.0", Reserved),
            ("0.255.255.255", Reserved),
            ("1.0.0.0", Public),
            ("9.255.255.255", Public),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("11.0.0.0", Public),
            ("100.63.255.255", Public),
            ("100.64.0.0", Reserved),
            ("100.127.255.255", Reserved),
            ("100.128.0.0", Public),
            ("127.0.0.1", Loopback),
            ("127.255.255.255", Loopback),
            ("128.0.0.0", Public),
            ("169.254.0.1", LinkLocal),
            ("169.255.0.0", Public),
            ("172.15.255.255", Public),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("172.32.0.0", Public),
            ("192.0.0.1", Reserved),
            ("192.0.1.1", Public),
            ("192.0.2.1", Documentation),
            ("192.88.99.1", Reserved),
            ("192.168.1.1", Private),
            ("198.17.255.255", Public),
            ("198.18.0.0", Reserved),
            ("198.19.255.255", Reserved),
            ("198.20.0.0", Public),
            ("198.51.100.7", Documentation),
            ("203.0.113.7", Documentation),
            ("223.255.255.255", Public),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.0", Reserved),
            ("255.255.255.255", Reserved),
            ("::", Reserved),
            ("::1", Loopback),
            ("::2", Reserved),
            ("64:ff9b::102:304", Public),
            ("64:ff9b:1::1", Reserved),
            ("100::1", Reserved),
            ("2001::1", Reserved),
            ("2001:1ff:ffff::1", Reserved),
            ("2001:200::1", Public),
            ("2001:db8::1", Documentation),
            ("2001:db9::1", Public),
            ("2002::1", Reserved),
            ("2606:4700::1111", Public),
            ("3fff::1", Documentation),
            ("3fff:fff::1", Documentation),
            ("3fff:1000::1", Public),
            ("4000::1", Reserved),
            ("fbff::1", Reserved),
            ("fc00::1", Private),
            ("fdff::1", Private),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("fec0::1", Reserved),
            ("ff02::1", Multicast),
        ] {
            assert_eq!(class_of(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn prefixes_are_a_24_or_a_48() {
        for (text, expected) in [
            ("108.228.145.239", "108.228.145.0/24"),
            ("255.255.255.255", "255.255.255.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("::1", "::/48"),
            ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff::/48"),
        ] {
            assert_eq!(&*prefix_of(text.parse().unwrap(), text), expected);
        }
    }
}
