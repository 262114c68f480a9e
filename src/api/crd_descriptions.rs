//! Descriptions for `kubectl explain`, which wraps lines by itself: the line breaks of the source
//! are removed. Paragraphs and list items stay separate.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Joins the lines of each paragraph of every description.
pub(super) fn join_description_lines(crd: &mut CustomResourceDefinition) {
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut();
        if let Some(schema) = schema.and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            join_in_schema(schema);
        }
    }
}

fn join_in_schema(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = join_lines(description);
    }
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(join_in_schema);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => join_in_schema(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(join_in_schema),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = &mut schema.additional_properties {
        join_in_schema(value);
    }
    let alternatives = [&mut schema.all_of, &mut schema.any_of, &mut schema.one_of];
    alternatives
        .into_iter()
        .flatten()
        .flatten()
        .for_each(join_in_schema);
}

fn join_lines(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for line in text.lines() {
        let begins_anew = joined.is_empty() || joined.ends_with('\n');
        if line.is_empty() || line.starts_with("- ") {
            joined.push('\n');
        } else if !begins_anew {
            joined.push(' ');
        }
        joined.push_str(if begins_anew { line } else { line.trim_start() });
        if line.is_empty() {
            joined.push('\n');
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_paragraphs_and_items_are_not() {
        assert_eq!(join_lines("one"), "one");
        assert_eq!(
            join_lines("one\ntwo\n\nthree\nfour"),
            "one two\n\nthree four"
        );
        assert_eq!(join_lines("one:\n- a\n  b\n- c"), "one:\n- a b\n- c");
    }
}
