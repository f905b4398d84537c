//! `cidr_contains(cidr, ip)` and `ip_prefix(ip, bits)`, for IPv4 and IPv6 as the contract normalises them.
//!
//! An IPv4-mapped IPv6 address or network is the IPv4 one. Addresses of the other family are in no network.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, StringViewBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{Texts, as_text, check_count, constant_text, unexpected};

/// A network: an address whose bits behind the prefix are zero, and the bits of the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    V4 { address: u32, mask: u32 },
    V6 { address: u128, mask: u128 },
}

/// The mask of a prefix; `bits` is at most 32.
fn mask_v4(bits: u32) -> u32 {
    u32::MAX.checked_shl(32 - bits).unwrap_or(0)
}

/// The mask of a prefix; `bits` is at most 128.
fn mask_v6(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

fn address_of(text: &str) -> Option<IpAddr> {
    Some(text.parse::<IpAddr>().ok()?.to_canonical())
}

impl Network {
    /// `10.0.0.0/8`, `2001:db8::/32`, or one address; or what is wrong with it.
    fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write 10.0.0.0/8, 2001:db8::/32 or one address";
        let (address_text, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address_text
            .parse()
            .map_err(|_| format!("'{text}' is no network: {FORM}"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits: u32 = match bits {
            None => most,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|count| *count <= most && bits.bytes().all(|digit| digit.is_ascii_digit()))
                .ok_or_else(|| format!("'{text}' is no network: the prefix has 0 to {most} bits; {FORM}"))?,
        };
        let network = match (address, address.to_canonical()) {
            // ::ffff:10.0.0.0/104 is 10.0.0.0/8; a shorter prefix holds more than the mapped addresses.
            (IpAddr::V6(_), IpAddr::V4(mapped)) if bits >= 96 => Self::V4 {
                address: mapped.to_bits(),
                mask: mask_v4(bits - 96),
            },
            (IpAddr::V6(address), _) => Self::V6 {
                address: address.to_bits(),
                mask: mask_v6(bits),
            },
            (IpAddr::V4(address), _) => Self::V4 {
                address: address.to_bits(),
                mask: mask_v4(bits),
            },
        };
        let is_whole = match network {
            Self::V4 { address, mask } => address & mask == address,
            Self::V6 { address, mask } => address & mask == address,
        };
        if is_whole {
            Ok(network)
        } else {
            Err(format!(
                "'{text}' is no network: it has bits behind its prefix; write {}/{bits}",
                prefix_address(address, bits)
            ))
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4 { address, mask }, IpAddr::V4(of)) => of.to_bits() & mask == address,
            (Self::V6 { address, mask }, IpAddr::V6(of)) => of.to_bits() & mask == address,
            _ => false,
        }
    }
}

/// The address with all bits behind the prefix zero.
fn prefix_address(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask_v4(bits.min(32)))),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask_v6(bits.min(128)))),
    }
}

/// `cidr_contains(cidr, ip)`: whether the network holds the address.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct CidrContains {
    signature: Signature,
}

impl CidrContains {
    const USAGE: &str = "cidr_contains(cidr, ip)";

    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for CidrContains {
    fn name(&self) -> &str {
        "cidr_contains"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check_count(types, Self::USAGE, 2)?;
        Ok(vec![
            as_text(&types[0], Self::USAGE, "cidr")?,
            as_text(&types[1], Self::USAGE, "ip")?,
        ])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if let Some(cidr) = constant_text(&args, 0)
            && let Err(problem) = Network::parse(cidr)
        {
            return plan_err!("{}: {problem}", Self::USAGE);
        }
        if let Some(ip) = constant_text(&args, 1)
            && address_of(ip).is_none()
        {
            return plan_err!("{}: '{ip}' is no IPv4 or IPv6 address", Self::USAGE);
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (cidrs, ips) = (Texts::of(&args.args[0])?, Texts::of(&args.args[1])?);
        let parse = |cidr: Option<&str>| cidr.and_then(|cidr| Network::parse(cidr).ok());
        let constant = match &cidrs {
            Texts::Constant(cidr) => Some(parse(*cidr)),
            Texts::Column(_) => None,
        };
        let rows = (0..args.number_rows).map(|row| {
            let network = constant.unwrap_or_else(|| parse(cidrs.get(row)))?;
            Some(network.contains(address_of(ips.get(row)?)?))
        });
        Ok(ColumnarValue::Array(Arc::new(rows.collect::<BooleanArray>())))
    }
}

/// `ip_prefix(ip, bits)`: the network of that many bits that the address is in, as text. An IPv4 address has at most 32.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct IpPrefix {
    signature: Signature,
}

impl IpPrefix {
    const USAGE: &str = "ip_prefix(ip, bits)";

    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

/// Bits of a prefix that some address has.
fn bits_of(bits: i64) -> Option<u32> {
    u32::try_from(bits).ok().filter(|bits| *bits <= 128)
}

impl ScalarUDFImpl for IpPrefix {
    fn name(&self) -> &str {
        "ip_prefix"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        check_count(types, Self::USAGE, 2)?;
        if !types[1].is_integer() && !types[1].is_null() {
            return plan_err!("{}: bits is a whole number, not {}", Self::USAGE, types[1]);
        }
        Ok(vec![as_text(&types[0], Self::USAGE, "ip")?, DataType::Int64])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        if let Some(Some(bits)) = args.scalar_arguments.get(1)
            && !bits.is_null()
            && let Ok(datafusion::common::ScalarValue::Int64(Some(bits))) = bits.cast_to(&DataType::Int64)
            && bits_of(bits).is_none()
        {
            return plan_err!("{}: a prefix has 0 to 128 bits, not {bits}", Self::USAGE);
        }
        if let Some(ip) = constant_text(&args, 0)
            && address_of(ip).is_none()
        {
            return plan_err!("{}: '{ip}' is no IPv4 or IPv6 address", Self::USAGE);
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8View, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ips = Texts::of(&args.args[0])?;
        let bits = args.args[1].to_array(args.number_rows)?;
        let Some(bits) = bits.as_primitive_opt::<Int64Type>() else {
            return unexpected(bits.data_type());
        };
        let mut prefixes = StringViewBuilder::with_capacity(args.number_rows);
        // The longest: eight groups of four digits and /128.
        let mut text = String::with_capacity(43);
        for row in 0..args.number_rows {
            let prefix = ips.get(row).and_then(|ip| {
                let bits = bits_of(bits.is_valid(row).then(|| bits.value(row))?)?;
                let address = address_of(ip)?;
                Some((
                    prefix_address(address, bits),
                    if address.is_ipv4() { bits.min(32) } else { bits },
                ))
            });
            match prefix {
                None => prefixes.append_null(),
                Some((address, bits)) => {
                    text.clear();
                    let _ = write!(text, "{address}/{bits}");
                    prefixes.append_value(&text);
                }
            }
        }
        Ok(ColumnarValue::Array(Arc::new(prefixes.finish())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (cidr, inside, outside) in [
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"][..],
                &["11.0.0.0", "9.255.255.255", "::a00:1"][..],
            ),
            ("0.0.0.0/0", &["255.255.255.255", "0.0.0.0"], &["::", "::1"]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.6"]),
            ("192.0.2.7/32", &["192.0.2.7"], &["192.0.2.8"]),
            (
                "2001:db8::/32",
                &["2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
                &["2001:db9::", "10.0.0.1"],
            ),
            ("::/0", &["::1", "ffff::"], &["10.0.0.1"]),
            ("::ffff:10.0.0.0/104", &["10.9.9.9"], &["11.0.0.0"]),
            ("2001:db8::1/128", &["2001:db8::1"], &["2001:db8::2"]),
        ] {
            let network = Network::parse(cidr).unwrap();
            for ip in inside {
                assert!(network.contains(address_of(ip).unwrap()), "{cidr} {ip}");
            }
            for ip in outside {
                assert!(!network.contains(address_of(ip).unwrap()), "{cidr} {ip}");
            }
        }
    }

    #[test]
    fn what_is_no_network_is_said() {
        for (cidr, expected) in [
            ("", "is no network"),
            ("10.0.0.0/33", "0 to 32 bits"),
            ("10.0.0.0/+8", "0 to 32 bits"),
            ("2001:db8::/129", "0 to 128 bits"),
            ("10.1.2.3/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("10.0.0/8", "is no network"),
            ("fe80::1%eth0", "is no network"),
        ] {
            let problem = Network::parse(cidr).unwrap_err();
            assert!(problem.contains(expected), "{cidr}: {problem}");
        }
    }

    #[test]
    fn a_prefix_of_any_length_holds_its_address() {
        for text in [
            "108.228.145.239",
            "255.255.255.255",
            "0.0.0.0",
            "2001:db8:a:b:c:d:e:f",
            "::",
            "ffff::ffff",
        ] {
            let address = address_of(text).unwrap();
            let most = if address.is_ipv4() { 32 } else { 128 };
            for bits in 0..=most {
                let prefix = format!("{}/{bits}", prefix_address(address, bits));
                let network = Network::parse(&prefix).unwrap_or_else(|problem| panic!("{problem}"));
                assert!(network.contains(address), "{prefix} {text}");
            }
        }
    }
}
