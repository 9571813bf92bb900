//! Variants of enums: which one a value names, and what it holds.

use std::borrow::Cow;

use serde::de::value::CowStrDeserializer;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};

use super::At;
use super::failure::{Failure, step};
use super::shape::{class_name, tag};
use crate::value::{Value, ValueKind};

impl<'c, 'b> At<'c, 'b> {
    /// The variant that the value names, of those that there are.
    pub(super) fn choice(self, variants: &[&str]) -> Result<Option<Choice<'c, 'b>>, Failure> {
        let named = tag(self.unwrapped()?.value);
        let known = |name: &str| variants.contains(&name);
        if named.as_deref().is_some_and(known) {
            return Ok(named.map(Choice::unit));
        }
        if let Some(class) = class_name(self.value).filter(|class| known(class)) {
            let content = match self.value.kind() {
                ValueKind::Object => Some(self.inner(self.value)?),
                _ => None,
            };
            return Ok(Some(Choice { tag: class.into(), content, key: None }));
        }
        if let Some([(key, value)]) = self.entries()?.as_deref() {
            let choice = |tag| Ok(Choice { tag, content: Some(self.inner(*value)?), key: Some(*key) });
            return tag(*key).map(choice).transpose();
        }
        Ok(named.map(Choice::unit))
    }
}

/// A variant by name, and what it holds.
pub(super) struct Choice<'c, 'b> {
    tag: Cow<'c, str>,
    content: Option<At<'c, 'b>>,
    /// The key that named it.
    key: Option<Value<'c>>,
}

impl<'c> Choice<'c, '_> {
    fn unit(tag: Cow<'c, str>) -> Self {
        Self { tag, content: None, key: None }
    }
}

impl<'c, 'b> EnumAccess<'c> for Choice<'c, 'b> {
    type Error = Failure;
    type Variant = Content<'c, 'b>;

    fn variant_seed<S: DeserializeSeed<'c>>(self, seed: S) -> Result<(S::Value, Content<'c, 'b>), Failure> {
        let Self { tag, content, key } = self;
        let tag: CowStrDeserializer<'_, Failure> = tag.into_deserializer();
        Ok((seed.deserialize(tag)?, Content { content, key }))
    }
}

/// What a variant holds.
pub(super) struct Content<'c, 'b> {
    content: Option<At<'c, 'b>>,
    key: Option<Value<'c>>,
}

impl<'c, 'b> Content<'c, 'b> {
    fn read<T>(
        self,
        expected: &str,
        read: impl FnOnce(At<'c, 'b>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let content = self.content.ok_or_else(|| Failure::misfit(&expected, "its name alone".to_owned()))?;
        read(content).map_err(|failure| match self.key {
            Some(key) => failure.under(step(key)),
            None => failure,
        })
    }
}

impl<'c> VariantAccess<'c> for Content<'c, '_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        if self.content.is_none() {
            return Ok(());
        }
        self.read("a variant", <()>::deserialize)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'c>>(self, seed: S) -> Result<S::Value, Failure> {
        self.read("a variant with a value", |content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'c>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.read("a variant with values", |content| content.deserialize_seq(visitor))
    }

    fn struct_variant<V: Visitor<'c>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.read("a variant with fields", |content| content.deserialize_struct("", &[], visitor))
    }
}
