//! The functions of ARM templates that need nothing but their arguments. Those that ask Azure are not here; see `template.rs`.

use super::json;
use super::node::{Entry, Kind, Mark, Node};
use crate::types::Prefix;

/// Stands for the subscription that a template would be deployed to.
pub(super) const SUBSCRIPTION: &str = "{subscriptionId}";
/// Stands for the resource group that a template would be deployed to.
pub(super) const RESOURCE_GROUP: &str = "{resourceGroup}";

/// Longest text that a function makes, in bytes; ARM's own limit.
const MAX_TEXT: usize = 131_072;
/// Items that `range` makes at most, as in Azure.
const MAX_RANGE: i64 = 10_000;

type Result<T> = std::result::Result<T, String>;

/// The names of all functions of [`call`], in lower case.
const NAMES: [&str; 50] = [
    "add",
    "and",
    "array",
    "bool",
    "cidrsubnet",
    "coalesce",
    "concat",
    "contains",
    "createarray",
    "createobject",
    "div",
    "empty",
    "endswith",
    "equals",
    "extensionresourceid",
    "false",
    "first",
    "format",
    "greater",
    "greaterorequals",
    "if",
    "int",
    "join",
    "json",
    "last",
    "length",
    "less",
    "lessorequals",
    "max",
    "min",
    "mod",
    "mul",
    "not",
    "null",
    "or",
    "range",
    "replace",
    "resourceid",
    "skip",
    "split",
    "startswith",
    "string",
    "sub",
    "subscriptionresourceid",
    "substring",
    "take",
    "tolower",
    "toupper",
    "trim",
    "true",
];

/// True of a function that [`call`] knows; the name in lower case.
pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// True of a function that only moves its arguments, so that what is not known inside them does no harm.
pub(super) fn only_moves(name: &str) -> bool {
    let names = "array concat createarray createobject extensionresourceid first format last length resourceid skip \
                 subscriptionresourceid take";
    names.split_whitespace().any(|n| n == name)
}

/// The value of a function, its name in lower case; a sentence says why there is none.
pub(super) fn call(name: &str, args: &[Node], mark: &Mark) -> Result<Kind> {
    match name {
        "resourceid" | "subscriptionresourceid" | "extensionresourceid" => resource_id(name, args),
        "concat" if args.iter().any(|a| a.as_list().is_some()) => {
            let lists: Option<Vec<&[Node]>> = args.iter().map(Node::as_list).collect();
            let lists = lists.ok_or("concat() joins texts or lists, not both")?;
            Ok(Kind::List(lists.concat()))
        }
        "concat" => Ok(Kind::String(args.iter().map(text).collect::<Result<String>>()?)),
        "format" => format_text(args),
        "tolower" | "toupper" | "trim" | "string" | "substring" | "replace" | "startswith" | "endswith"
        | "split" | "join" => on_text(name, args, mark),
        "add" | "sub" | "mul" | "div" | "mod" | "less" | "lessorequals" | "greater" | "greaterorequals" => {
            arithmetic(name, args)
        }
        "min" | "max" | "int" | "range" => on_numbers(name, args, mark),
        "true" => Ok(Kind::Bool(true)),
        "false" => Ok(Kind::Bool(false)),
        "null" => Ok(Kind::Null),
        "bool" => truth(arg(args, 0)?).map(Kind::Bool),
        "not" => Ok(Kind::Bool(!truth(arg(args, 0)?)?)),
        "json" => json(&text(arg(args, 0)?)?, mark),
        "equals" => Ok(Kind::Bool(same(arg(args, 0)?, arg(args, 1)?))),
        "cidrsubnet" => cidr_subnet(args),
        _ => on_collections(name, args, mark),
    }
}

fn arg(args: &[Node], index: usize) -> Result<&Node> {
    args.get(index).ok_or_else(|| "an argument is missing".to_owned())
}

fn text(node: &Node) -> Result<String> {
    match &node.kind {
        Kind::String(s) | Kind::Number(s) => Ok(s.clone()),
        Kind::Bool(b) => Ok(if *b { "True" } else { "False" }.to_owned()),
        _ => Err(format!("{} stands where a text should be", node.what())),
    }
}

fn number(node: &Node) -> Result<i64> {
    let parsed = node.as_text().and_then(|t| t.parse().ok());
    parsed.ok_or_else(|| format!("'{}' stands where a whole number should be", node.describe()))
}

/// true or false, or one of these words.
pub(super) fn truth(node: &Node) -> Result<bool> {
    match &node.kind {
        Kind::Bool(b) => Ok(*b),
        Kind::String(s) if s.eq_ignore_ascii_case("true") => Ok(true),
        Kind::String(s) if s.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(format!("'{}' is neither true nor false", node.describe())),
    }
}

/// The value that a text of JSON holds; all of it stands where the expression does.
fn json(text: &str, mark: &Mark) -> Result<Kind> {
    fn place(node: &mut Node, mark: &Mark) {
        node.mark = mark.clone();
        match &mut node.kind {
            Kind::List(items) => items.iter_mut().for_each(|item| place(item, mark)),
            Kind::Map(entries) => {
                for entry in entries {
                    entry.mark = mark.clone();
                    place(&mut entry.value, mark);
                }
            }
            _ => {}
        }
    }
    let reading = json::read(&mark.file, text);
    match (reading.node, reading.faults.first()) {
        (Some(mut node), None) => {
            place(&mut node, mark);
            Ok(node.kind)
        }
        (_, fault) => Err(fault.map_or_else(String::new, |f| f.message.clone())),
    }
}

fn same(a: &Node, b: &Node) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Null, Kind::Null) => true,
        (Kind::Bool(a), Kind::Bool(b)) => a == b,
        (Kind::Number(a), Kind::Number(b)) | (Kind::String(a), Kind::String(b)) => a == b,
        (Kind::List(a), Kind::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Kind::Map(a), Kind::Map(entries)) => {
            a.len() == entries.len() && a.iter().all(|e| b.get_ci(&e.key).is_some_and(|v| same(&e.value, v)))
        }
        _ => false,
    }
}

fn int(value: Option<i64>) -> Result<Kind> {
    value.map(|v| Kind::Number(v.to_string())).ok_or_else(|| "the result is no whole number".to_owned())
}

fn at(kind: Kind, mark: &Mark) -> Node {
    Node { mark: mark.clone(), kind }
}

/// `/subscriptions/S/resourceGroups/G/providers/TYPE/NAME...`; names and types take turns.
fn resource_id(function: &str, args: &[Node]) -> Result<Kind> {
    let parts = args.iter().map(text).collect::<Result<Vec<String>>>()?;
    let is_type = |part: &String| part.contains('/') && !part.starts_with('/');
    let at = parts.iter().position(is_type).ok_or_else(|| format!("{function}() names no resource type"))?;
    let (before, rest) = parts.split_at(at);
    let [kind, names @ ..] = rest else { return Err("an argument is missing".to_owned()) };
    let mut types = kind.split('/');
    let namespace = types.next().unwrap_or("");
    let types: Vec<&str> = types.collect();
    if types.len() != names.len() {
        return Err(format!("the type '{kind}' takes {} names, not {}", types.len(), names.len()));
    }
    let base = match (function, before) {
        ("extensionresourceid", [base, ..]) => base.clone(),
        ("subscriptionresourceid", _) => {
            format!("/subscriptions/{}", before.last().map_or(SUBSCRIPTION, |s| s))
        }
        (_, []) => format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}"),
        (_, [group]) => format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}"),
        (_, [subscription, group, ..]) => format!("/subscriptions/{subscription}/resourceGroups/{group}"),
    };
    let path: String = types.iter().zip(names).map(|(kind, name)| format!("/{kind}/{name}")).collect();
    Ok(Kind::String(format!("{base}/providers/{namespace}{path}")))
}

/// `format('{0}-{1}', a, b)`; .NET's number formats are not read.
fn format_text(args: &[Node]) -> Result<Kind> {
    let pattern = text(arg(args, 0)?)?;
    let mut out = String::new();
    let mut rest = pattern.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at..).unwrap_or("");
        if let Some(after) = rest.strip_prefix("{{") {
            out.push('{');
            rest = after;
        } else if let Some(after) = rest.strip_prefix("}}") {
            out.push('}');
            rest = after;
        } else {
            let inner = rest.strip_prefix('{').and_then(|r| r.split_once('}'));
            let (index, after) = inner.ok_or("the pattern of format() has a '{' or '}' on its own")?;
            let index: usize =
                index.parse().map_err(|_| format!("format() with '{{{index}}}' is not read"))?;
            out.push_str(&text(arg(args, index.saturating_add(1))?)?);
            rest = after;
        }
        if out.len() > MAX_TEXT {
            return Err(too_long());
        }
    }
    Ok(Kind::String(out + rest))
}

fn too_long() -> String {
    format!("the text would be longer than {MAX_TEXT} bytes")
}

fn on_text(name: &str, args: &[Node], mark: &Mark) -> Result<Kind> {
    if name == "join" {
        let items = arg(args, 0)?.as_list().ok_or("join() takes a list")?;
        let items = items.iter().map(text).collect::<Result<Vec<String>>>()?;
        let joined = items.join(&text(arg(args, 1)?)?);
        return if joined.len() > MAX_TEXT { Err(too_long()) } else { Ok(Kind::String(joined)) };
    }
    let first = text(arg(args, 0)?)?;
    let lower = |node: &Node| text(node).map(|t| t.to_lowercase());
    Ok(match name {
        "tolower" => Kind::String(first.to_lowercase()),
        "toupper" => Kind::String(first.to_uppercase()),
        "trim" => Kind::String(first.trim().to_owned()),
        "replace" => match text(arg(args, 1)?)? {
            what if what.is_empty() => return Err("replace() of an empty text".to_owned()),
            what => {
                let with = text(arg(args, 2)?)?;
                if first.matches(&what).count().saturating_mul(with.len()) > MAX_TEXT {
                    return Err(too_long());
                }
                Kind::String(first.replace(&what, &with))
            }
        },
        "startswith" => Kind::Bool(first.to_lowercase().starts_with(&lower(arg(args, 1)?)?)),
        "endswith" => Kind::Bool(first.to_lowercase().ends_with(&lower(arg(args, 1)?)?)),
        "substring" => {
            let start = usize::try_from(number(arg(args, 1)?)?).map_err(|_| "substring() before the text")?;
            let rest: String = first.chars().skip(start).collect();
            match args.get(2) {
                Some(count) => {
                    let count =
                        usize::try_from(number(count)?).map_err(|_| "substring() of a negative length")?;
                    Kind::String(rest.chars().take(count).collect())
                }
                None => Kind::String(rest),
            }
        }
        "split" => match text(arg(args, 1)?)? {
            by if by.is_empty() => return Err("split() at an empty text".to_owned()),
            by => Kind::List(first.split(&by).map(|p| at(Kind::String(p.to_owned()), mark)).collect()),
        },
        _ => Kind::String(first),
    })
}

fn arithmetic(name: &str, args: &[Node]) -> Result<Kind> {
    let (a, b) = (number(arg(args, 0)?)?, number(arg(args, 1)?)?);
    match name {
        "add" => int(a.checked_add(b)),
        "sub" => int(a.checked_sub(b)),
        "mul" => int(a.checked_mul(b)),
        "div" => int(a.checked_div(b)),
        "mod" => int(a.checked_rem(b)),
        "less" => Ok(Kind::Bool(a < b)),
        "lessorequals" => Ok(Kind::Bool(a <= b)),
        "greater" => Ok(Kind::Bool(a > b)),
        _ => Ok(Kind::Bool(a >= b)),
    }
}

fn on_numbers(name: &str, args: &[Node], mark: &Mark) -> Result<Kind> {
    if name == "range" {
        let (start, count) = (number(arg(args, 0)?)?, number(arg(args, 1)?)?);
        let end = start.checked_add(count).filter(|_| (0..=MAX_RANGE).contains(&count));
        let end = end.ok_or_else(|| format!("range() makes at most {MAX_RANGE} numbers"))?;
        return Ok(Kind::List((start..end).map(|i| at(Kind::Number(i.to_string()), mark)).collect()));
    }
    let given = match arg(args, 0)?.as_list() {
        Some(items) => items,
        None => args,
    };
    let numbers = given.iter().map(number).collect::<Result<Vec<i64>>>()?;
    int(match name {
        "min" => numbers.into_iter().min(),
        "max" => numbers.into_iter().max(),
        _ => numbers.first().copied(),
    })
}

fn on_collections(name: &str, args: &[Node], mark: &Mark) -> Result<Kind> {
    match name {
        "createarray" => return Ok(Kind::List(args.to_vec())),
        "createobject" => {
            let (pairs, odd) = args.as_chunks::<2>();
            let entry =
                |[k, v]: &[Node; 2]| text(k).map(|key| Entry { key, mark: mark.clone(), value: v.clone() });
            let entries = pairs.iter().map(entry).collect::<Result<Vec<Entry>>>()?;
            return if odd.is_empty() {
                Ok(Kind::Map(entries))
            } else {
                Err("a value is missing".to_owned())
            };
        }
        _ => {}
    }
    let of = arg(args, 0)?;
    let count = |of: &Node| match &of.kind {
        Kind::List(items) => Ok(items.len()),
        Kind::Map(entries) => Ok(entries.len()),
        Kind::String(s) => Ok(s.chars().count()),
        _ => Err(format!("{}() of {}", name, of.what())),
    };
    match name {
        "array" if of.as_list().is_some() => Ok(of.kind.clone()),
        "array" => Ok(Kind::List(vec![of.clone()])),
        "empty" => Ok(Kind::Bool(of.is_null() || count(of)? == 0)),
        "length" => int(i64::try_from(count(of)?).ok()),
        "contains" => contains(of, arg(args, 1)?).map(Kind::Bool),
        "first" | "last" | "skip" | "take" => cut(name, of, args.get(1)),
        _ => Err(format!("{name}() is not known here")),
    }
}

fn contains(of: &Node, item: &Node) -> Result<bool> {
    match &of.kind {
        Kind::List(items) => Ok(items.iter().any(|i| same(i, item))),
        Kind::Map(_) => Ok(of.entry_ci(&text(item)?).is_some()),
        Kind::String(s) => Ok(s.contains(&text(item)?)),
        _ => Err(format!("contains() of {}", of.what())),
    }
}

fn cut(name: &str, of: &Node, count: Option<&Node>) -> Result<Kind> {
    let count = match (name, count) {
        ("first" | "last", _) => 1,
        (_, Some(count)) => usize::try_from(number(count)?).unwrap_or(0),
        (_, None) => return Err("an argument is missing".to_owned()),
    };
    match &of.kind {
        Kind::List(items) => Ok(match name {
            "first" => items.first().map_or(Kind::Null, |n| n.kind.clone()),
            "last" => items.last().map_or(Kind::Null, |n| n.kind.clone()),
            "skip" => Kind::List(items.iter().skip(count).cloned().collect()),
            _ => Kind::List(items.iter().take(count).cloned().collect()),
        }),
        Kind::String(s) => Ok(Kind::String(match name {
            "last" => s.chars().last().into_iter().collect(),
            "skip" => s.chars().skip(count).collect(),
            _ => s.chars().take(count).collect(),
        })),
        _ => Err(format!("{name}() of {}", of.what())),
    }
}

/// `cidrSubnet('10.0.0.0/16', 24, 3)` is 10.0.3.0/24.
fn cidr_subnet(args: &[Node]) -> Result<Kind> {
    let network = text(arg(args, 0)?)?;
    let network: Prefix = network.parse().map_err(|e| format!("'{network}' {e}"))?;
    let length = u8::try_from(number(arg(args, 1)?)?).unwrap_or(u8::MAX);
    let index = u128::try_from(number(arg(args, 2)?)?).unwrap_or(u128::MAX);
    let bits = if network.is_ipv4() { 32 } else { 128 };
    let subnets = length.checked_sub(network.len()).filter(|_| length <= bits);
    let free = subnets.map(|s| 1u128.checked_shl(u32::from(s)).unwrap_or(u128::MAX));
    if free.is_none_or(|free| index >= free) {
        return Err(format!("{network} has no subnet {index} of length {length}"));
    }
    let offset = index.checked_shl(u32::from(bits - length)).unwrap_or(0);
    let first = match network.first() {
        std::net::IpAddr::V4(a) => {
            let bits = u128::from(a.to_bits()) + offset;
            std::net::Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into()
        }
        std::net::IpAddr::V6(a) => std::net::Ipv6Addr::from_bits(a.to_bits().wrapping_add(offset)).into(),
    };
    Ok(Kind::String(Prefix::new(first, length).to_string()))
}
