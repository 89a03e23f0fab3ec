//! How long each function is; the limits are in [`super::ratchet`].

use proc_macro2::Span;
use syn::visit::{self, Visit};

use super::source::Source;

/// One function outside tests.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// With the type it belongs to, as in `Parser::next`.
    pub name: String,
    /// Where its signature begins, counted from 1.
    pub line: usize,
    /// From the signature to the closing brace, both included.
    pub lines: usize,
}

/// Every function of a file that is not only compiled for tests.
pub fn measure(source: &Source) -> Vec<Function> {
    let mut collector = Collector { source, owner: None, found: Vec::new() };
    collector.visit_file(&source.syntax);
    collector.found
}

struct Collector<'a> {
    source: &'a Source,
    owner: Option<String>,
    found: Vec<Function>,
}

impl Collector<'_> {
    fn note(&mut self, signature: &syn::Signature, end: Span) {
        let line = signature.fn_token.span.start().line;
        if self.source.is_test_line(line) {
            return;
        }
        let name = match &self.owner {
            Some(owner) => format!("{owner}::{}", signature.ident),
            None => signature.ident.to_string(),
        };
        self.found.push(Function { name, line, lines: end.end().line + 1 - line });
    }

    fn within(&mut self, owner: String, look: impl FnOnce(&mut Self)) {
        let outer = self.owner.replace(owner);
        look(self);
        self.owner = outer;
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, item.block.brace_token.span.close());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, item.block.brace_token.span.close());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.note(&item.sig, block.brace_token.span.close());
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let owner = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        self.within(owner.unwrap_or_default(), |inner| {
            visit::visit_item_impl(inner, item);
        });
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.within(item.ident.to_string(), |inner| {
            visit::visit_item_trait(inner, item);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_with_their_owner() {
        let text = "struct A;\nimpl A {\n    /// Doc.\n    fn b(\n        &self,\n    ) {\n    }\n}\n\
                    fn c() {}\n#[cfg(test)]\nmod tests {\n    fn d() {}\n}\n";
        let source = Source::parse("crates/a/src/lib.rs", text.to_owned()).unwrap();
        let expected = [("A::b", 4, 4), ("c", 9, 1)].map(|(name, line, lines)| Function {
            name: name.to_owned(),
            line,
            lines,
        });
        assert_eq!(measure(&source), expected);
    }
}
