//! The language of ARM template expressions: from the text in brackets to a tree. What the functions do is in `functions.rs`.

/// Deepest nesting of calls; Azure's own limit on an expression's length keeps real ones far below.
const MAX_CALLS: usize = 32;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expr {
    /// `'text'`.
    Text(String),
    /// `7`.
    Number(i64),
    /// `name(a, b)`; the name as written.
    Call(String, Vec<Expr>),
    /// `a.b` and `a[b]`.
    Member(Box<Expr>, Box<Expr>),
}

/// What stands inside the brackets, if the text is an expression: `[...]`, but not `[[...`.
pub(super) fn inside(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']').filter(|inner| !inner.starts_with('['))
}

/// Reads what stands inside the brackets; a sentence says what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Expr, String> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let expr = parser.expr()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(format!("'{}' is too much", parser.rest().chars().take(20).collect::<String>())),
    }
}

impl Expr {
    /// Visits every call, the inner ones of a call behind it.
    pub(super) fn calls<'a>(&'a self, visit: &mut dyn FnMut(&'a str, &'a [Expr])) {
        match self {
            Expr::Text(_) | Expr::Number(_) => {}
            Expr::Call(name, args) => {
                visit(name, args);
                args.iter().for_each(|arg| arg.calls(visit));
            }
            Expr::Member(of, name) => {
                of.calls(visit);
                name.calls(visit);
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn expr(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > MAX_CALLS {
            return Err(format!("more than {MAX_CALLS} calls are nested"));
        }
        let mut expr = self.simple()?;
        let mut members = 0;
        loop {
            let member = if self.take('.') {
                let name = self.word();
                if name.is_empty() {
                    return Err("a property name is missing behind '.'".to_owned());
                }
                Expr::Text(name.to_owned())
            } else if self.take('[') {
                let index = self.expr()?;
                self.want(']')?;
                index
            } else {
                break;
            };
            members += 1;
            if members > MAX_CALLS {
                return Err(format!("more than {MAX_CALLS} properties follow each other"));
            }
            expr = Expr::Member(Box::new(expr), Box::new(member));
        }
        self.depth -= 1;
        Ok(expr)
    }

    fn simple(&mut self) -> Result<Expr, String> {
        match self.peek() {
            Some('\'') => self.quoted(),
            Some(c) if c == '-' || c.is_ascii_digit() => {
                let digits = |c: char| c == '-' || c.is_ascii_digit();
                let number = self.take_while(digits);
                number.parse().map(Expr::Number).map_err(|_| format!("'{number}' is not a whole number"))
            }
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.call(),
            Some(c) => Err(format!("'{c}' stands where a function, a text or a number should be")),
            None => Err("it ends where a function, a text or a number should be".to_owned()),
        }
    }

    fn quoted(&mut self) -> Result<Expr, String> {
        self.take('\'');
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let Some(run) = rest.find('\'') else {
                return Err("a text has no closing quote".to_owned());
            };
            text.push_str(rest.get(..run).unwrap_or(""));
            self.at += run + 1;
            if !self.rest().starts_with('\'') {
                return Ok(Expr::Text(text));
            }
            self.at += 1;
            text.push('\'');
        }
    }

    fn call(&mut self) -> Result<Expr, String> {
        let mut name = self.word().to_owned();
        if self.take('.') {
            name = format!("{name}.{}", self.word());
        }
        if !self.take('(') {
            return Err(format!("'{name}' is no function call; texts stand in single quotes"));
        }
        let mut args = Vec::new();
        if self.take(')') {
            return Ok(Expr::Call(name, args));
        }
        loop {
            args.push(self.expr()?);
            if self.take(')') {
                return Ok(Expr::Call(name, args));
            }
            self.want(',')?;
        }
    }

    fn word(&mut self) -> &'a str {
        self.peek();
        self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = rest.get(..rest.find(|c| !wanted(c)).unwrap_or(rest.len())).unwrap_or("");
        self.at += taken.len();
        taken
    }

    fn want(&mut self, c: char) -> Result<(), String> {
        if self.take(c) { Ok(()) } else { Err(format!("'{c}' is missing")) }
    }

    fn take(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        found
    }

    /// The next character behind white space.
    fn peek(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_expressions() {
        let text = |t: &str| Expr::Text(t.to_owned());
        let call = |name: &str, args: Vec<Expr>| Expr::Call(name.to_owned(), args);
        let member = |of, name| Expr::Member(Box::new(of), Box::new(name));
        for (written, expr) in [
            ("'it''s'", text("it's")),
            ("parameters('x')", call("parameters", vec![text("x")])),
            ("concat( 'a' ,\n -7)", call("concat", vec![text("a"), Expr::Number(-7)])),
            ("variables('v').y", member(call("variables", vec![text("v")]), text("y"))),
            ("f()['y'][0]", member(member(call("f", vec![]), text("y")), Expr::Number(0))),
            ("ns.f()", call("ns.f", vec![])),
        ] {
            assert_eq!(parse(written), Ok(expr), "{written}");
        }
        assert_eq!(inside("[f()]"), Some("f()"));
        for literal in ["f()", "[[f()]", "[f()", "", "["] {
            assert_eq!(inside(literal), None, "{literal}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (written, sentence) in [
            ("", "it ends where a function, a text or a number should be"),
            ("f(", "it ends where a function, a text or a number should be"),
            ("f('a'", "',' is missing"),
            ("f('a)", "a text has no closing quote"),
            ("f() g()", "'g()' is too much"),
            ("name", "'name' is no function call; texts stand in single quotes"),
            ("1-2", "'1-2' is not a whole number"),
            ("f().", "a property name is missing behind '.'"),
            ("f(]", "']' stands where a function, a text or a number should be"),
        ] {
            assert_eq!(parse(written), Err(sentence.to_owned()), "{written}");
        }
        assert!(parse(&"f(".repeat(100_000)).is_err());
        assert!(parse(&format!("f(){}", ".a".repeat(100_000))).is_err());
    }
}
