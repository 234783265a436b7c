//! ARM templates: the values of their expressions, as far as the template itself says them. What only Azure knows stays
//! the text of its expression, and becomes a fault where the value is needed; [`unresolved`] says why.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::expr::{self, Expr};
use super::functions::{self, RESOURCE_GROUP, SUBSCRIPTION};
use super::node::{Entry, Kind, MAX_DEPTH, Mark, Node};

/// Values that the expressions of one document may make, 16 bytes of text counting as one.
const MAX_WORK: usize = 2_000_000;
/// How deep parameters, variables and values may lean on each other.
const MAX_STEPS: usize = 200;
/// Repetitions of one `copy` loop; Azure's own limit.
const MAX_COPIES: i64 = 800;

const EXPORT: &str = "export the deployed resource instead ('az network ... show -o json')";

/// Why the value of this text is not known: it is an ARM expression that only Azure can evaluate, or none that can be
/// understood. Nothing if the text is no expression. The sentence goes behind the value in a fault.
pub fn unresolved(text: &str) -> Option<String> {
    let expr = match expr::parse(expr::inside(text)?) {
        Ok(expr) => expr,
        Err(error) => return Some(format!("is an ARM expression that cannot be read: {error}")),
    };
    let mut azure: Option<&str> = None;
    let (mut parameters, mut variables) = (Vec::new(), Vec::new());
    expr.calls(&mut |name, args| match (name.to_ascii_lowercase().as_str(), args) {
        ("parameters", [Expr::Text(of), ..]) if !parameters.contains(of) => parameters.push(of.clone()),
        ("variables", [Expr::Text(of), ..]) if !variables.contains(of) => variables.push(of.clone()),
        ("parameters" | "variables" | "tryget", _) => {}
        (lower, _) if functions::is_known(lower) => {}
        _ => azure = azure.or(Some(name)),
    });
    let (parameters, variables) = (parameters.join("', '"), variables.join("', '"));
    Some(match azure {
        Some(name) if name.eq_ignore_ascii_case("copyIndex") => {
            "is an ARM expression with copyIndex(), which has a value only inside a 'copy' loop".to_owned()
        }
        Some(name) => format!("is an ARM expression with {name}(), whose answer only Azure knows; {EXPORT}"),
        None if parameters.is_empty() && variables.is_empty() => {
            format!("is an ARM expression whose value cannot be worked out; {EXPORT}")
        }
        None if variables.is_empty() => format!(
            "is an ARM expression that needs the parameter '{parameters}', of which the template gives no literal \
             value; give it one, or {EXPORT}"
        ),
        None if parameters.is_empty() => format!(
            "is an ARM expression that needs '{variables}', whose value the template alone does not tell; {EXPORT}"
        ),
        None => format!(
            "is an ARM expression that needs '{parameters}' and '{variables}', whose values the template alone does not tell; {EXPORT}"
        ),
    })
}

/// What all scopes of one document share.
#[derive(Debug, Default)]
pub(super) struct Work {
    done: Cell<usize>,
    steps: Cell<usize>,
}

impl Work {
    /// True once the document has made more values than are allowed.
    pub(super) fn is_spent(&self) -> bool {
        self.done.get() > MAX_WORK
    }

    /// The sentence for a document that is spent.
    pub(super) fn sentence() -> String {
        format!("the template's expressions make more than {MAX_WORK} values; {EXPORT}")
    }

    fn charge(&self, cost: usize) -> Result<(), String> {
        self.done.set(self.done.get().saturating_add(cost));
        if self.is_spent() { Err(Work::sentence()) } else { Ok(()) }
    }

    fn deeper<T>(&self, run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        if self.steps.get() >= MAX_STEPS {
            return Err("parameters and variables lean on each other too deeply".to_owned());
        }
        self.steps.set(self.steps.get() + 1);
        let result = run();
        self.steps.set(self.steps.get() - 1);
        result
    }
}

/// One turn of a `copy` loop.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) name: String,
    pub(super) index: i64,
    /// The loop repeats a resource, not a property.
    pub(super) of_resource: bool,
}

/// Value, or why it is not known.
pub(super) type Known = Result<Node, String>;

/// The same, kept for everyone who asks again.
type Shared = Result<Rc<Node>, String>;

/// Where an expression finds its parameters and variables.
pub(super) struct Scope<'a> {
    parameters: Option<&'a Node>,
    /// What a deployment gives to the parameters of its inner template, by name in lower case.
    given: HashMap<String, Known>,
    variables: Option<&'a Node>,
    /// Values worked out before; nothing while one is being worked out.
    known: RefCell<HashMap<(&'static str, String), Option<Shared>>>,
    pub(super) work: &'a Work,
}

impl<'a> Scope<'a> {
    /// The scope of a template, or of a document that is none.
    pub(super) fn of(template: &'a Node, given: HashMap<String, Known>, work: &'a Work) -> Scope<'a> {
        Scope {
            parameters: template.get_ci("parameters"),
            variables: template.get_ci("variables"),
            given,
            known: RefCell::default(),
            work,
        }
    }

    /// The value with all its expressions evaluated; those that cannot be stay as they are.
    pub(super) fn resolve(&self, node: &Node, turns: &[Turn]) -> Node {
        if self.work.charge(1).is_err() {
            return Node { mark: node.mark.clone(), kind: Kind::Null };
        }
        let kind = match &node.kind {
            Kind::String(_) => return self.settled(node, turns).unwrap_or_else(|_| node.clone()),
            Kind::List(items) => Kind::List(items.iter().map(|item| self.resolve(item, turns)).collect()),
            Kind::Map(entries) => Kind::Map(self.resolve_entries(entries, turns)),
            other => other.clone(),
        };
        Node { mark: node.mark.clone(), kind }
    }

    /// The value of a node where it is used; if it is a text that is an expression, its value or why there is none.
    pub(super) fn settled(&self, node: &Node, turns: &[Turn]) -> Known {
        let mut value = self.evaluate(node, turns)?;
        cut_ids(&mut value);
        match &value.kind {
            Kind::String(text) if is_expression(node) && !text.starts_with("/subscriptions/") => {
                settled(&value)?
            }
            _ => {}
        }
        Ok(value)
    }

    /// The value of a node; it may still hold what stands for the subscription and the resource group.
    fn evaluate(&self, node: &Node, turns: &[Turn]) -> Known {
        let Some(text) = node.as_str() else { return Ok(self.resolve(node, turns)) };
        let Some(inner) = expr::inside(text) else {
            let literal = if text.starts_with("[[") { text.get(1..).unwrap_or(text) } else { text };
            self.work.charge(literal.len() / 16)?;
            return Ok(Node { mark: node.mark.clone(), kind: Kind::String(literal.to_owned()) });
        };
        let expr = expr::parse(inner).map_err(|error| format!("the expression cannot be read: {error}"))?;
        self.value(&expr, &node.mark, turns)
    }

    /// What a deployment gives to a parameter of its inner template.
    pub(super) fn given(&self, value: &Node, turns: &[Turn]) -> Known {
        self.evaluate(value, turns)
    }

    fn resolve_entries(&self, entries: &[Entry], turns: &[Turn]) -> Vec<Entry> {
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.value.as_list() {
                Some(loops) if entry.key == "copy" => {
                    out.extend(loops.iter().filter_map(|l| self.property_loop(l, turns)));
                }
                _ => out.push(Entry {
                    key: entry.key.clone(),
                    mark: entry.mark.clone(),
                    value: self.resolve(&entry.value, turns),
                }),
            }
        }
        out
    }

    /// A property that a `copy` loop makes: its list; the text of its count if that is not known.
    fn property_loop(&self, spec: &Node, turns: &[Turn]) -> Option<Entry> {
        let name = spec.get_ci("name")?;
        let (count, input) = (spec.get_ci("count")?, spec.get_ci("input")?);
        let entry = |value| Some(Entry { key: name.as_str()?.to_owned(), mark: name.mark.clone(), value });
        let Ok(count_known) = self.loop_count(count, turns) else { return entry(count.clone()) };
        let mut items = Vec::new();
        for index in 0..count_known {
            let mut inner = turns.to_vec();
            inner.push(Turn { name: name.as_str()?.to_owned(), index, of_resource: false });
            items.push(self.resolve(input, &inner));
        }
        entry(Node { mark: spec.mark.clone(), kind: Kind::List(items) })
    }

    /// How often a loop turns.
    pub(super) fn loop_count(&self, count: &Node, turns: &[Turn]) -> Result<i64, String> {
        let value = self.settled(count, turns)?;
        let number = value.as_text().and_then(|t| t.parse::<i64>().ok());
        match number.filter(|n| (0..=MAX_COPIES).contains(n)) {
            Some(number) => Ok(number),
            None => Err(format!("a loop turns 0 to {MAX_COPIES} times, not '{}'", value.describe())),
        }
    }

    fn value(&self, expr: &Expr, mark: &Mark, turns: &[Turn]) -> Known {
        self.work.charge(1)?;
        let node = |kind| Node { mark: mark.clone(), kind };
        match expr {
            Expr::Text(text) => Ok(node(Kind::String(text.clone()))),
            Expr::Number(number) => Ok(node(Kind::Number(number.to_string()))),
            Expr::Member(of, name) => self.work.deeper(|| {
                let name = self.value(name, mark, turns)?;
                let whole = self.shared(of, mark, turns)?;
                self.copy_of(member(&whole, &name)?, mark)
            }),
            Expr::Call(name, args) => self.work.deeper(|| self.call(name, args, mark, turns)),
        }
    }

    /// The value of what a member is taken of, without a copy of the whole of a parameter or variable.
    fn shared(&self, expr: &Expr, mark: &Mark, turns: &[Turn]) -> Shared {
        if let Expr::Call(function, args) = expr
            && let [name] = args.as_slice()
        {
            for (written, what) in [("parameters", "parameter"), ("variables", "variable")] {
                if function.eq_ignore_ascii_case(written) {
                    let name = self.value(name, mark, turns)?;
                    return self.named(what, &name);
                }
            }
        }
        self.value(expr, mark, turns).map(Rc::new)
    }

    fn call(&self, name: &str, args: &[Expr], mark: &Mark, turns: &[Turn]) -> Known {
        let lower = name.to_ascii_lowercase();
        let node = |kind| Node { mark: mark.clone(), kind };
        let lazy = |index: usize| match args.get(index) {
            Some(arg) => self.value(arg, mark, turns),
            None => Err(format!("{name}() misses an argument")),
        };
        let truth = |index: usize| {
            let value = lazy(index)?;
            settled(&value)?;
            functions::truth(&value)
        };
        match lower.as_str() {
            "parameters" => return self.copy_of(&*self.named("parameter", &lazy(0)?)?, mark),
            "variables" => return self.copy_of(&*self.named("variable", &lazy(0)?)?, mark),
            "if" => return if truth(0)? { lazy(1) } else { lazy(2) },
            "and" | "or" => {
                for index in 0..args.len() {
                    if truth(index)? == (lower == "or") {
                        return Ok(node(Kind::Bool(lower == "or")));
                    }
                }
                return Ok(node(Kind::Bool(lower == "and")));
            }
            "coalesce" => {
                for index in 0..args.len() {
                    let value = lazy(index)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                return Ok(node(Kind::Null));
            }
            "tryget" => {
                let (value, key) = (lazy(0)?, lazy(1)?);
                return Ok(member(&value, &key).cloned().unwrap_or(node(Kind::Null)));
            }
            "copyindex" => return copy_index(args, turns).map(|index| node(Kind::Number(index.to_string()))),
            "resourcegroup" | "subscription" if args.is_empty() => return Ok(place(&lower, mark)),
            _ => {}
        }
        if !functions::is_known(&lower) {
            return Err(format!("{name}() is answered only by Azure; {EXPORT}"));
        }
        let values =
            args.iter().map(|arg| self.value(arg, mark, turns)).collect::<Result<Vec<Node>, String>>()?;
        if !functions::only_moves(&lower) {
            values.iter().try_for_each(settled)?;
        }
        let made = node(functions::call(&lower, &values, mark).map_err(|e| format!("in {name}(): {e}"))?);
        self.measured(made)
    }

    /// The value of a parameter or variable, worked out once.
    fn named(&self, what: &'static str, name: &Node) -> Shared {
        let Some(name) = name.as_str() else {
            return Err(format!("the name of a {what} is {}", name.what()));
        };
        let key = (what, name.to_ascii_lowercase());
        if let Some(known) = self.known.borrow().get(&key) {
            return known.clone().unwrap_or_else(|| Err(format!("the {what} '{name}' needs itself")));
        }
        self.known.borrow_mut().insert(key.clone(), None);
        let known = self.work.deeper(|| match what {
            "parameter" => self.parameter(name),
            _ => self.variable(name),
        });
        let known = known.and_then(|node| self.measured(node)).map(Rc::new);
        self.known.borrow_mut().insert(key, Some(known.clone()));
        known
    }

    fn parameter(&self, name: &str) -> Known {
        if let Some(given) = self.given.get(&name.to_ascii_lowercase()) {
            return given.clone();
        }
        let Some(definition) = self.parameters.and_then(|p| p.get_ci(name)) else {
            return Err(format!("there is no parameter '{name}'"));
        };
        match definition.get_ci("defaultValue").or_else(|| definition.get_ci("value")) {
            Some(value) => {
                self.evaluate(value, &[]).map_err(|reason| format!("in the parameter '{name}': {reason}"))
            }
            None => Err(format!("the parameter '{name}' has no defaultValue; give it one, or {EXPORT}")),
        }
    }

    fn variable(&self, name: &str) -> Known {
        let reason = |reason| format!("in the variable '{name}': {reason}");
        if let Some(value) = self.variables.and_then(|v| v.get_ci(name)) {
            return self.evaluate(value, &[]).map_err(reason);
        }
        let loops = self.variables.and_then(|v| v.get_ci("copy")).and_then(Node::as_list).unwrap_or(&[]);
        let is_it =
            |l: &&Node| l.get_ci("name").and_then(Node::as_str).is_some_and(|n| n.eq_ignore_ascii_case(name));
        match loops.iter().find(is_it).and_then(|l| self.property_loop(l, &[])) {
            Some(entry) if entry.value.as_list().is_some() => Ok(entry.value),
            Some(_) => Err(reason("the count of its loop is not known".to_owned())),
            None => Err(format!("there is no variable '{name}'")),
        }
    }

    fn copy_of(&self, node: &Node, mark: &Mark) -> Known {
        if let Some(reason) = node.as_str().and_then(unresolved) {
            return Err(format!("'{}' {reason}", node.describe()));
        }
        self.work.charge(node.size().0)?;
        Ok(Node { mark: mark.clone(), kind: node.kind.clone() })
    }

    fn measured(&self, node: Node) -> Known {
        let (cost, depth) = node.size();
        self.work.charge(cost)?;
        if depth > MAX_DEPTH {
            Err(format!("the value is nested deeper than {MAX_DEPTH} levels"))
        } else {
            Ok(node)
        }
    }
}

/// A property of a map or an item of a list.
fn member<'n>(of: &'n Node, name: &Node) -> Result<&'n Node, String> {
    let missing = || format!("there is no '{}' in '{}'", name.describe(), of.describe());
    let found = match &of.kind {
        Kind::Map(_) => of.get_ci(name.as_str().unwrap_or_default()),
        Kind::List(items) => name.as_text().and_then(|t| t.parse::<usize>().ok()).and_then(|i| items.get(i)),
        _ => None,
    };
    found.ok_or_else(missing)
}

fn copy_index(args: &[Expr], turns: &[Turn]) -> Result<i64, String> {
    let (name, offset) = match args {
        [] => (None, 0),
        [Expr::Number(offset)] => (None, *offset),
        [Expr::Text(name)] => (Some(name), 0),
        [Expr::Text(name), Expr::Number(offset)] => (Some(name), *offset),
        _ => return Err("copyIndex() takes the name of a loop and a number".to_owned()),
    };
    let turn = match name {
        Some(name) => turns.iter().rev().find(|t| t.name.eq_ignore_ascii_case(name)),
        None => turns.iter().rev().find(|t| t.of_resource),
    };
    let turn = turn.ok_or("copyIndex() has a value only inside its 'copy' loop")?;
    turn.index.checked_add(offset).ok_or_else(|| "copyIndex() is too large".to_owned())
}

/// `resourceGroup()` and `subscription()`: only as far as ids need them.
fn place(function: &str, mark: &Mark) -> Node {
    let node = |kind| Node { mark: mark.clone(), kind };
    let entry = |key: &str, text: &str| Entry {
        key: key.to_owned(),
        mark: mark.clone(),
        value: node(Kind::String(text.to_owned())),
    };
    let subscription = format!("/subscriptions/{SUBSCRIPTION}");
    let group = format!("{subscription}/resourceGroups/{RESOURCE_GROUP}");
    node(Kind::Map(match function {
        "subscription" => vec![entry("id", &subscription), entry("subscriptionId", SUBSCRIPTION)],
        _ => vec![entry("id", &group), entry("name", RESOURCE_GROUP)],
    }))
}

fn is_expression(node: &Node) -> bool {
    node.as_str().and_then(expr::inside).is_some()
}

/// Ids in a subscription or resource group that is not known keep what is: `Microsoft.Network/virtualNetworks/hub`.
fn cut_ids(node: &mut Node) {
    match &mut node.kind {
        Kind::String(text) if text.contains(SUBSCRIPTION) || text.contains(RESOURCE_GROUP) => {
            let known = text.rsplit_once("/providers/").filter(|_| text.starts_with("/subscriptions/"));
            if let Some((_, known)) = known {
                *text = known.to_owned();
            }
        }
        Kind::List(items) => items.iter_mut().for_each(cut_ids),
        Kind::Map(entries) => entries.iter_mut().for_each(|e| cut_ids(&mut e.value)),
        _ => {}
    }
}

/// Fails if a value holds anything that is not known.
fn settled(node: &Node) -> Result<(), String> {
    match &node.kind {
        Kind::String(text) if text.contains(SUBSCRIPTION) => {
            Err(format!("subscription() is known only to Azure; {EXPORT}"))
        }
        Kind::String(text) if text.contains(RESOURCE_GROUP) => {
            Err(format!("resourceGroup() is known only to Azure; {EXPORT}"))
        }
        Kind::String(text) => match unresolved(text) {
            Some(reason) => Err(format!("'{}' {reason}", node.describe())),
            None => Ok(()),
        },
        Kind::List(items) => items.iter().try_for_each(settled),
        Kind::Map(entries) => entries.iter().try_for_each(|e| settled(&e.value)),
        _ => Ok(()),
    }
}
