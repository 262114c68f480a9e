#!/usr/bin/env python3
"""Deletes one check at a time and expects the named test to fail. `make mutations`; about twenty seconds for each.

Works in a temporary checkout of HEAD with a target folder of its own (MUTATIONS_TARGET, default target/mutations), so nothing here is
touched. A change that does not apply, or that does not compile, is an error: the table below has to follow the code. --check: only
whether every change applies to this checkout.
"""

import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# What is deleted, where, the code, what stands there instead, and the test that must fail.
TABLE = [
    ("a tenant's hosts are everybody's", "src/controller/webhook_configuration/entries.rs",
     "!matches!(policy.rules().kind, PolicyOrigin::Namespaced(_))", "policy.rules().generation >= 0", "a_bundle_policy_widens_its_own_namespace_only"),
    ("an entry of namespaces is for all", "src/controller/webhook_configuration/entries.rs",
     'selected.extend(self.namespaces.map(|namespaces| by_name("In", json!(namespaces))));', "", "each_namespace_is_asked_about_its_own_hosts"),
    ("an object is sent twice", "src/controller/webhook_configuration/entries.rs",
     "conditions.extend(self.not_matched_by_uses().into_iter().chain(self.not_matched_by_namespaced_uses()));", "conditions.extend(self.not_matched_by_uses());", "no_object_is_sent_twice"),
    ("conditions of tenants have no end", "src/controller/webhook_configuration/entries/namespaced_conditions.rs",
     "if used + more <= max_bytes {", "if used + more <= 1_000 * max_bytes {", "what_tenants_write_never_outgrows_what_an_api_server_takes"),
    ("a namespace's policies have no budget", "src/api/bundle_policy/policy_quota.rs",
     "bounds.into_iter().find(|(found, limit, _)| found > limit)", "bounds.into_iter().find(|(found, limit, _)| *found > 1_000_000 * limit)", "over_its_budget_a_namespace_refuses_what_it_governs_and_no_other_notices"),
    ("what is the same is parsed again", "src/api/bundle_policy/parsed_material_cache.rs",
     "known.insert(content, Arc::downgrade(&new));", "drop(content);", "what_is_the_same_is_parsed_once_and_not_kept_when_nobody_has_it"),
    ("whoever changes policies without pause never waits", "src/api/bundle_policy/incremental_compiler.rs",
     "if next_time <= at + ahead {", "if next_time <= at + 1_000 * ahead {", "only_what_changed_is_compiled_and_whoever_never_stops_waits"),
    ("a namespace's ConfigMaps have no budget", "src/webhook/config_maps.rs",
     "if !is_of_system && exceed_namespace_quota(maps) {", "if is_of_system && exceed_namespace_quota(maps) {", "what_one_namespace_has_too_much_of_is_not_kept"),
    ("a credential is sent wherever a redirect leads", "src/fetch/http/access.rs",
     "at_origin = at_origin && next.origin() == url.origin();", "let _ = at_origin;", "a_credential_is_sent_to_its_own_place_only"),
    ("back at the first origin the credential is sent again", "src/fetch/http/access.rs",
     "at_origin = at_origin && next.origin() == url.origin();", "at_origin = next.origin() == url.origin();", "after_another_origin_nothing_is_sent_even_back_at_the_first"),
    ("a credential of an origin goes without TLS", "src/core/download/credential_scope.rs",
     '"http" => CredentialScopeMatch::NeedsTls,', '"http" => CredentialScopeMatch::Sent,', "credentials_stay_with_their_host_port_and_path"),
    ("a credential is for half a segment", "src/core/download/mod.rs",
     "rest.is_empty() || rest.starts_with('/')", "rest.is_empty() || !rest.starts_with('\\0')", "credentials_stay_with_their_host_port_and_path"),
    ("a netrc entry for everybody counts", "src/fetch/http/netrc.rs",
     "place = NetrcPlace::Ignored;", "place = NetrcPlace::Machine;", "entries_are_read_as_curl_reads_them"),
    ("a mirror gets the signature of another host", "src/fetch/http/mod.rs",
     "self.access.mirrors_of(&without_credential(&url))", "self.access.mirrors_of(&url)", "mirrors_are_tried_in_order_and_then_the_origin"),
    ("credentials in origins are published", "src/core/lockfile/mod.rs",
     "Self::parse_as_published(bytes, limits).map(Self::with_separate_credentials)", "Self::parse_as_published(bytes, limits)", "credentials_in_origins_are_not_part_of_it"),
    ("a Job fetches from where the lock does not say", "src/core/job/inputs.rs",
     ".filter(|artifact| published.as_ref() == Some(&artifact.origin))", ".filter(|_| published.is_some())", "credentials_of_origins_return_to_the_lock_that_they_were_taken_from"),
    ("what was encoded for the transfer is locked", "src/fetch/http/mod.rs",
     "content_encoding::check_not_encoded(&url, head) .map_err(|cause| read_error(&location, cause))?;", "let _ = content_encoding::check_not_encoded(&url, head);", "a_file_that_is_encoded_although_it_was_not_asked_for_is_refused"),
    ("halves of two versions are put together", "src/fetch/http/download.rs",
     "if digest.finish() != self.digest.clone().finish() {", "if digest.finish() != self.digest.clone().finish() && left > 0 {", "halves_of_two_versions_are_never_put_together"),
    ("a name may be longer than file systems take", "src/core/bundle_path.rs",
     "if segments.iter().any(|segment| segment.len() > MAX_SEGMENT) {", "if segments.iter().any(|segment| segment.len() > MAX_PATH) {", "targets_that_escape_are_refused"),
    ("a Secret of downloads needs no right", "src/webhook/required_access.rs",
     "all.extend(spec.fetch.iter().flat_map(fetch_accesses));", "", "every_secret_is_found"),
    ("what was verified says something about every specification", "src/controller/bundle_tracker.rs",
     "known.filter(|entry| entry.generation == of.generation)", "known.filter(|entry| entry.generation >= 0)",
     "what_was_verified_says_nothing_about_another_specification"),
    ("what the watch cache does not have is gone", "src/controller/garbage_collector.rs",
     "if bundle_exists(namespace, name, uid, context).await? {", "if false && bundle_exists(namespace, name, uid, context).await? {",
     "a_child_is_an_orphan_once_the_api_server_no_longer_has_its_object"),
    ("any valid signature counts for an issuer's", "src/core/x509/issuer_signatures.rs",
     "let parts = [", "let (public_key, signature) = (b\"\".as_slice(), b\"\".as_slice());\n        let parts = [",
     "only_a_valid_signature_in_an_issuers_certificate_is_remembered"),
    ("what was signed for another repository counts", "src/core/policy/signed_repository.rs",
     "StatementSubjectName::OtherRepository(name) => Some(name),", "StatementSubjectName::OtherRepository(name) => Some(name).filter(|name| name.is_empty()),",
     "binding::what_was_signed_for_one_repository_does_not_count_in_another"),
    ("nothing needs to name the repository", "src/core/policy/repository_binding.rs",
     "if evaluation.statements.iter().any(|statement| names(statement)) {", "if evaluation.statements.iter().any(|statement| names(statement) || true) {",
     "binding::a_signature_without_a_name_needs_provenance_that_has_one"),
    ("a mirror may stand for half a segment", "src/core/policy_syntax/repository_mirror.rs",
     "rest.is_empty() || rest.starts_with('/')", "rest.is_empty() || !rest.starts_with('\\0')", "mirrors_stand_for_whole_segments"),
    ("an IPv6 address may stand for an IPv4 address", "src/core/reference/host.rs",
     "[0, 0, 0, 0, 0, 0 | 0xffff, ..] | ", "[1, 0, 0, 0, 0, 0 | 0xffff, ..] | ", "what_a_runtime_might_read_as_an_address_is_refused"),
    ("a number may be a host", "src/core/reference/host.rs",
     "if name.split('.').all(is_numeric_label) {", "if name.parse::<Ipv4Addr>().is_ok() {", "what_a_runtime_might_read_as_an_address_is_refused"),
    ("only literal addresses are sent to the webhook", "src/core/policy_syntax/image_pattern.rs",
     "(true, false) => ADDRESSES.to_vec(),", "(true, false) => vec![name],",
     "images_are_sent_by_their_hosts"),
    ("a target may have what nobody sees", "src/core/bundle_path.rs",
     "Some(c) => Err(BundlePathError::Invisible(c.into())),", "Some(c) if c.is_control() => Err(BundlePathError::Invisible(c.into())),\n            Some(_) => clean_path(text),",
     "refused_locks::malformed_locks_are_refused"),
    ("a tenant's policy may bear a cluster policy's name", "src/core/report/policy_report.rs",
     "(self.policy.as_ref(), self.policy_kind, &self.policy_namespace) == (Some(&policy.name), policy.kind, &policy.namespace)",
     "self.policy.as_ref() == Some(&policy.name)", "a_namespaces_policy_bears_nobody_elses_name"),
    ("an exemption admits a tag", "src/core/policy/evaluate.rs",
     "let verdict = match check_digest(evaluation) { Ok(()) => AdmissionVerdict::Exempt(exempted), Err(denial) => deny(denial), };",
     "let verdict = AdmissionVerdict::Exempt(exempted);", "an_exempted_digest_admits_no_tag"),
    ("targets may contain ..", "src/core/bundle_path.rs",
     'if segments.contains(&"..") {', 'if segments.contains(&"...") {', "refused_locks::malformed_locks_are_refused"),
    ("two targets may be equal", "src/core/lockfile/validation.rs",
     "return Err(LockfileError::at_field(field, LockfileFieldError::TakenTarget { value, other }));", "return Ok(());", "refused_locks::malformed_locks_are_refused"),
    ("a lock may be of any size", "src/core/lockfile/document.rs",
     "if bytes.len() > limits.lock_bytes {", "if bytes.len() > limits.lock_bytes * 1000 {", "what_is_too_much_is_refused"),
    ("an artifact's checksum is not compared", "src/service/transfer.rs",
     "if digest == expected.checksum {", "if digest == digest {", "refused_locks::bytes_that_are_not_the_locks_are_refused"),
    ("file origins may follow links out of the folder", "src/fetch/file.rs",
     "if self.outside == OutsideFolderPolicy::Refused && !real.starts_with(&folder) {", "if self.outside == OutsideFolderPolicy::Refused && real.starts_with(\"/nowhere\") {",
     "what_lies_outside_is_refused_unless_allowed"),
    ("a blob's digest is not compared", "src/oci/verify_stream.rs",
     "if actual != self.digest {", "if actual != actual {", "corrupt::a_changed_byte_in_any_blob_is_found"),
    ("a refused fallback tag is an empty list", "src/oci/remote/referrers_tag.rs",
     "        Err(OciError::NotFound { .. }) => Ok(None),", "        Err(OciError::NotFound { .. } | OciError::Denied { .. }) => Ok(None),", "refused_registries::a_refusal_is_no_absence_of_signatures"),
    ("a refused referrers API is none", "src/oci/remote/referrers.rs",
     "matches!(status.as_u16(), 400 | 404 | 405 | 406 | 501)", "matches!(status.as_u16(), 400 | 403 | 404 | 405 | 406 | 501)",
     "refused_registries::a_refusal_is_no_absence_of_signatures"),
    ("evidence that is withheld is not missed", "src/service/verify.rs",
     "Some(refusal) if needs_more_evidence(&decision) => Err(refusal.into()),", "Some(refusal) if refusal.to_string().is_empty() => Err(refusal.into()),",
     "legacy::a_refusal_under_a_tag_matters_where_the_rest_is_not_enough"),
    ("an image's manifests are its referrers", "src/oci/remote/referrers_tag.rs",
     "entries.retain(|entry| !entry.has_platform());", "entries.retain(|entry| !entry.has_platform() || limits.referrers_listed > 0);",
     "the_manifests_of_an_image_are_not_its_referrers"),
    ("a signature that nobody can find is stored", "src/service/sign.rs",
     "    require_listed(target, subject, &descriptor.digest).await?;\n", "", "a_signature_that_nobody_can_find_is_an_error"),
    ("all of a public suffix has one owner", "src/oci/remote/token_hosts.rs",
     "domain.is_some() && (domain == owned_domain(realm) || is_below(realm, registry))",
     "domain.is_some() && (psl::suffix_str(registry) == psl::suffix_str(realm) || is_below(realm, registry))",
     "credentials_stay_with_the_registry_and_its_owner"),
    ("a cloud's domain owns those of its customers", "src/oci/remote/token_hosts.rs",
     "(!SHARED_DOMAINS.contains(&owned)).then_some(owned)", "Some(owned)",
     "credentials_stay_with_the_registry_and_its_owner"),
    ("a token service gets credentials without TLS", "src/oci/remote/token_hosts.rs",
     'if realm.scheme() != "https" && registry.scheme() == "https" {', 'if realm.scheme() != "https" && registry.scheme() != "https" {',
     "further_services_are_allowed_by_name"),
    ("one allowed token service allows all", "src/oci/remote/token_hosts.rs",
     "self.0.origin() == realm.origin() &&", "self.0.has_host() &&", "further_services_are_allowed_by_name"),
    ("a server's certificate vouches for others", "src/http/tls.rs",
     "self.pinned.iter().any(|pinned| pinned == certificate)", "!self.pinned.is_empty() && !certificate.is_empty()",
     "tls::a_certificate_that_is_no_authority_vouches_for_itself_only"),
    ("a server's own certificate is for every time and name", "src/http/tls.rs",
     "check_pinned(end_entity, server_name, now)?;", "let _ = check_pinned(end_entity, server_name, now);",
     "tls::faults_are_told_in_words_with_the_way_out_and_not_tried_again"),
    ("each referrer is listed with a write of its own", "src/service/push_referrers.rs",
     "unlisted.extend(target.push_unlisted(&manifest.descriptor, content).await?);",
     "target.list_pushed_referrers(target.push_unlisted(&manifest.descriptor, content).await?.into_iter().collect()).await?; unlisted.clear();",
     "registry_quirks::signing::immutable_tags_take_the_first_list_of_referrers"),
    ("a tag is believed to be right", "src/oci/remote/manifests.rs",
     ".is_ok_and(|(_, bytes)| Digest::of_bytes(&bytes) == *digest)", ".is_ok_and(|(_, bytes)| !bytes.is_empty())", "a_tag_whose_digest_is_a_lie_is_written"),
    ("a signature is not verified", "src/core/verify/key_signature.rs",
     "if self.is_made_by(key) {", "if self.is_made_by(key) || !self.signature.is_empty() {", "verdicts::a_wrong_key_is_refused"),
    ("a statement may be about anything", "src/core/verify/statement.rs",
     "if statement.has_subject_digest(subject) {", "if statement.has_subject_digest(subject) || count > 0 {", "verdicts::a_statement_about_another_digest_is_refused"),
    ('a log entry needs no inclusion proof', "src/core/verify/sigstore.rs",
     '    require_inclusion_proofs(bundle, format)?;\n', '', "every_single_fault_has_its_one_reason"),
    ("an entry's log may be unknown", "src/core/verify/log_entries.rs",
     '.find(|log| log.id == entry.log_id.key_id.as_bytes()).ok_or(LogEntryError::UnknownLog)?;', '.find(|log| log.id == entry.log_id.key_id.as_bytes()).or(self.0.last()).ok_or(LogEntryError::UnknownLog)?;', "every_single_fault_has_its_one_reason"),
    ('any trusted log may sign the checkpoint', "src/core/verify/log_entries.rs",
     'if !known.all(|hint| log.matches_key_hint(hint)) {', 'if !known.all(|hint| log.matches_key_hint(hint) || self.0.len() > 1) {', "every_single_fault_has_its_one_reason"),
    ("a file's signature need not be logged", "src/core/blob_verification.rs",
     'if bundle.log_entries().is_empty() => { return', 'if bundle.log_entries().len() > 1_000 => { return', "a_file_needs_a_log_entry_and_a_time"),
    ('a proof may be for another tree', "src/core/verify/log_entries.rs",
     'return Err(LogEntryError::TreeMismatch);', 'return Ok(());', "every_single_fault_has_its_one_reason"),
    ('a proof may be for another place', "src/core/verify/log_entries.rs",
     'return Err(LogEntryError::IndexMismatch);', 'return Ok(());', "every_single_fault_has_its_one_reason"),
    ('a log may be out of use', "src/core/verify/log_entries.rs",
     'if in_use { Ok(()) }', 'if in_use || !times.is_empty() { Ok(()) }', "every_single_fault_has_its_one_reason"),
    ("a root's certificate never ends", "src/core/x509/chain.rs",
     "until.filter(|until| at >= *until)", "until.filter(|until| at >= *until && at < *until)", "every_issuer_must_be_one_whoever_trusts_it"),
    ("a root allows any path", "src/core/x509/chain.rs",
     "between.len() > usize::from(longest))", "between.len() > usize::from(longest) + 9)", "path_lengths_count_every_intermediate"),
    ("whoever has a certificate may issue", "src/core/x509/chain.rs",
     "properties_of(certificate).is_some_and(|facts| facts.may_issue())", "properties_of(certificate).is_some()", "every_issuer_must_be_one_whoever_trusts_it"),
    ("a root need not be an authority's", "src/core/x509/certificate_properties.rs",
     "        self.check_issuer()?;\n        if !self.may_issue_for", "        if !self.may_issue_for", "every_issuer_must_be_one_whoever_trusts_it"),
    ("a root is for anything", "src/core/x509/certificate_properties.rs",
     "if !self.may_issue_for(purpose) {", "if !self.may_issue_for(purpose) && self.path_len == Some(9) {", "every_issuer_must_be_one_whoever_trusts_it"),
    ("a root may say critical things that nobody knows", "src/core/x509/certificate_properties.rs",
     "match unknown_critical_extension(certificate) {", "match unknown_critical_extension(certificate).filter(|_| self.path_len == Some(9)) {", "every_issuer_must_be_one_whoever_trusts_it"),
    ("an issuer may be for servers", "src/core/x509/chain.rs",
     "if is_silent { Ok(()) } else { Err(", "if is_silent || missing.present.is_empty() { Ok(()) } else { Err(", "every_issuer_must_be_one_whoever_trusts_it"),
    ("anybody's revocation list counts", "src/core/x509/chain.rs",
     "if has_lists && !root.may_revoke() {", "if has_lists && !root.may_revoke() && between.len() > 9 {", "a_revocation_list_counts_only_if_its_issuer_may_sign_it"),
    ("a timestamp authority may do something else", "src/core/x509/certificate_properties.rs",
     "purposes.is_critical && purposes.all == [purpose.key_purpose_oid()]", "purposes.all.contains(&purpose.key_purpose_oid())", "a_timestamp_authority_is_for_nothing_else"),
    ("a timestamp authority's chain is not looked at", "src/core/trusted_material/trust_root.rs",
     "        kept.is_ok()\n", "        true\n", "every_issuer_must_be_one_whoever_trusts_it"),
    ("a certificate authority is trusted at any time", "src/core/trusted_material/trust_root_authorities.rs",
     "authority.window.is_none_or(|window| window.contains(at))", "authority.window.is_none_or(|window| window.contains(at) || at > window.start)", "every_single_fault_has_its_one_reason"),
    ("no log of certificates need have seen it", "src/core/trusted_material/trust_root.rs",
     "            self.certificate_logs.check_certificate(&certificate.der, &path.issuer)?;\n", "", "every_single_fault_has_its_one_reason"),
    ("a forged promise beside a good one is passed over", "src/core/x509/sct.rs",
     "if is_good { Ok(true) }", "if is_good || signed.len() > 9 { Ok(is_good) }", "every_single_fault_has_its_one_reason"),
    ("an entry of Rekor v2 may tell a time", "src/core/verify/log_entries.rs",
     "if is_rekor_v2(entry) && entry.integrated_time.is_some() {", "if is_rekor_v2(entry) && entry.inclusion_promise.is_some() {", "every_single_fault_has_its_one_reason"),
    ("that a certificate is revoked may get lost", "src/core/x509/error_messages.rs",
     "if revoked.is_empty() { furthest_error(rest)", "if revoked.len() < 3 { furthest_error(revoked.into_iter().chain(rest).collect())", "who_revoked_a_certificate_is_told_although_somebody_else_believes_it"),
    ("a newer root is forgotten with the rest", "src/trust/tuf.rs",
     "    *roots = files.root_chain();\n    outcome.map(|(fetched, _)| fetched)\n", "    outcome.map(|(fetched, _)| fetched)\n", "a_newer_root_is_kept_although_the_rest_of_its_refresh_fails"),
    ("what a newer root revoked is used on", "src/service/trust_root.rs",
     "if matches!(refresh, Some(Err(_))) && *roots != before {", "if matches!(refresh, Some(Err(_))) && roots.size() == 1 {", "a_newer_root_is_kept_although_the_rest_of_its_refresh_fails"),
    ('a certificate may have no issuer', "src/core/x509/fulcio_certificate.rs",
     '.issuer.filter(|issuer| !issuer.is_empty())?;', '.issuer.filter(|issuer| issuer.len() < 1_000)?;', "every_single_fault_has_its_one_reason"),
    ('a certificate may have two names', "src/core/x509/subject_alt_name.rs",
     'match names.as_slice() {\n        [name] => general_name_text(name),', 'match names.as_slice() {\n        [name, ..] => general_name_text(name),', "every_single_fault_has_its_one_reason"),
    ('an email address may look like a URI', "src/core/x509/subject_alt_name.rs",
     ".filter(|email| email.contains('@') && !email.contains(':'))", ".filter(|email| email.contains('@'))", "every_single_fault_has_its_one_reason"),
    ('a URI may look like an email address', "src/core/x509/subject_alt_name.rs",
     ".filter(|uri| uri.contains(':'))", ".filter(|uri| !uri.contains('\\0'))", "every_single_fault_has_its_one_reason"),
    ('an envelope may hold anything', "src/core/verify/referrer.rs",
     'if envelope.payload_type != media_type::IN_TOTO {', 'if envelope.payload_type.is_empty() {', "every_single_fault_has_its_one_reason"),
    ('one log may vouch twice', "src/core/sigstore_bundle.rs",
     'if entries.iter().all(|entry| seen.insert(&entry.log_id.key_id))', 'if entries.iter().all(|entry| seen.insert(&entry.log_id.key_id) || seen.len() < 9)', "every_single_fault_has_its_one_reason"),
    ('a bundle may have any number of entries', "src/core/sigstore_bundle.rs",
     'material.tlog_entries.as_ref().map_or(0, Vec::len), limits.log_entries)', 'material.tlog_entries.as_ref().map_or(0, Vec::len), limits.log_entries * 9)', "every_single_fault_has_its_one_reason"),
    ('a bundle may carry key and certificate', "src/core/sigstore_bundle.rs",
     '        1 => Ok(()),\n        count => Err', '        1 | 2 => Ok(()),\n        count => Err', "every_single_fault_has_its_one_reason"),
    ('a statement may have any number of subjects', "src/core/verify/statement.rs",
     'if count > limits.subjects {', 'if count > limits.subjects * 9 {', "every_single_fault_has_its_one_reason"),
    ("any attestation is a signature", "src/core/policy/evaluation.rs",
     "filter(|statement| statement.claim().predicate_type == COSIGN_SIGN)", "filter(|statement| !statement.claim().predicate_type.is_empty())",
     "verdicts::an_attestation_of_another_type_is_no_provenance_and_no_signature"),
    ("one key counts once for each padding", "src/core/policy/signatures.rs",
     "(signature.signer(), signature.normalized_key_fingerprint())", "(signature.signer(), signature.key_fingerprint())", "one_rsa_key_counts_once_whatever_it_was_declared_for"),
    ("any builder is trusted", "src/core/policy/slsa.rs",
     "rules.builders.iter().filter(|rule| rule.id == builder)", "rules.builders.iter().filter(|rule| rule.id == builder || rule.level < 9)", "verdicts::an_untrusted_builder_is_refused"),
    ("any authority speaks for any builder", "src/core/policy/slsa.rs",
     "authority.is_some_and(|authority| evaluation.rules.counts_for_authority(authority, statement))", "authority.is_some_and(|authority| evaluation.rules.counts_for_authority(authority, statement) || true)",
     "verdicts::a_builder_that_its_authority_may_not_speak_for_is_refused"),
    ("the provenance's inputs are not compared with the lock", "src/core/policy/slsa.rs",
     "    if rules.lock == LockRule::Exact {\n        check_lock", "    if false {\n        check_lock", "verdicts::a_lock_that_is_not_the_provenances_is_refused"),
    ("a reference needs no digest", "src/core/policy/evaluate.rs",
     "if subject.had_digest || !rules.require_digest {", "if subject.had_digest || rules.threshold < 1_000 {", "verdicts::a_policy_asks_for_a_digest_and_prints_it"),
    ("the sign Job takes any lock", "src/service/rebuild_and_sign.rs",
     "if found != inputs.lock_digest {", "if found != found {", "a_genuine_bundle_of_another_lock_or_with_other_choices_is_not_signed"),
    ("the sign Job takes any output", "src/service/rebuild_and_sign.rs",
     "if contents.plan.output != inputs.output {", "if false {", "a_genuine_bundle_of_another_lock_or_with_other_choices_is_not_signed"),
    ("the sign Job reads no layer", "src/service/rebuild_and_sign.rs",
     "    compare_layers(target, &contents, &*context.progress).await?;\n", "", "a_forged_manifest_is_never_signed"),
    ("a layer's entries are not compared", "src/service/layer.rs",
     "if actual == expected {", "if actual == actual {", "a_forged_manifest_is_never_signed"),
    ("a layer's contents are not compared", "src/service/layer.rs",
     "if checksum.finish() == file.checksum {", "if checksum.finish() == file.checksum || left == 0 {", "a_forged_manifest_is_never_signed"),
    ("a tag that may not move is taken", "src/service/publish/tagging.rs",
     "if self.policy == JobTagPolicy::Mutable {", "if self.policy == self.policy {", "a_tag_that_names_something_else_is_not_taken_unless_it_may_move"),
    ("a tag that is not told is absent", "src/service/publish/tagging.rs",
     "Ok(_) | Err(OciError::NotFound { .. }) => Ok(()),", "Ok(_) | Err(OciError::NotFound { .. } | OciError::Denied { .. }) => Ok(()),",
     "a_tag_that_the_registry_does_not_tell_is_not_absent"),
    ("what is not admitted is tagged", "src/service/publish/mod.rs",
     "let (published, clearance) = Box::pin(attestor.attest_missing()).await?; (published, TagPermission::Cleared(clearance))",
     "match Box::pin(attestor.attest_missing()).await { Ok((published, clearance)) => (published, TagPermission::Cleared(clearance)), "
     "Err(_) => (PublishOutcome::Unsigned, TagPermission::Unsigned) }", "what_the_registry_does_not_show_is_not_tagged"),
    ("a clearance opens every bundle", "src/service/unpack.rs",
     "&& *clearance.digest() != root.descriptor.digest", "&& clearance.digest().hex_digits().is_empty()", "a_clearance_for_another_bundle_unpacks_nothing"),
    ("a decision outlives an exemption", "src/core/policy/next_change.rs",
     ".filter(|one| one.digest == subject.digest)", ".filter(|one| one.digest != subject.digest)", "a_decision_is_valid_until_the_moment_that_it_names"),
    ("a decision outlives a certificate", "src/core/policy/next_change.rs",
     "[validity.from, validity.until, begins_to_count, too_old]", "[validity.from, validity.from, begins_to_count, too_old]", "a_decision_is_valid_until_the_moment_that_it_names"),
    ("a decision outlives the age of provenance", "src/core/policy/next_change.rs",
     "[validity.from, validity.until, begins_to_count, too_old]", "[validity.from, validity.until, begins_to_count, too_old.filter(|_| false)]",
     "a_decision_is_valid_until_the_moment_that_it_names"),
    ("an image without grounds is admitted", "src/webhook/review_response.rs",
     "all.into_iter().map(|image| image.grounds).collect();", "Some(all.into_iter().filter_map(|image| image.grounds).collect());",
     "without_grounds_nothing_is_allowed"),
    ("a verdict outlives its policies", "src/webhook/admission_check.rs",
     "policies: snapshot.governing_fingerprints(&check.request.policy_scope())", "policies: Vec::new()", "what_was_admitted_under_one_policy_is_judged_anew_under_another"),
    ("a verdict outlives its time", "src/webhook/verdict_cache.rs",
     "if now < success.until {", "if success.weight > 0 {", "time_ends_what_is_remembered"),
    ("a verdict is anybody's", "src/webhook/admission_check.rs",
     "credentials: source.credentials,", "credentials: None,", "what_one_credential_may_read_is_not_remembered_for_another"),
    ("any number of signature checks", "src/core/evidence/check_budget.rs",
     "let Some(rest) = left.get().checked_sub(weight) else {", "let Some(rest) = left.get().checked_sub(weight).or(Some(0)) else {",
     "many_bundles_times_many_keys_cost_a_bounded_number_of_checks"),
    ("checks go on though nobody waits", "src/core/evidence/check_budget.rs",
     "if (self.stopped)() {", "if (self.stopped)() && *limit == 0 {", "nothing_is_judged_once_nobody_waits"),
    ("the work goes on without anybody who waits", "src/service/evidence/mod.rs",
     "self.0.store(true, Ordering::Relaxed);", "self.0.store(false, Ordering::Relaxed);", "whoever_gives_up_ends_the_work"),
    ("the key that a bundle names waits its turn", "src/core/verify/key_signature.rs",
     "for key in hinted.into_iter().chain(others) {", "for key in others.into_iter().chain(hinted) {",
     "a_signature_that_names_its_key_counts_however_many_bad_ones_there_are"),
    ("statements may need any memory", "src/core/evidence/statement_memory.rs",
     "let left = self.left.checked_sub(size).ok_or(EvidenceError::StatementMemoryExceeded { size, limit: self.limit })?;",
     "let left = self.left.saturating_sub(size);", "statements_that_are_small_as_text_and_large_in_memory_are_bounded"),
    ("any number of bytes is read", "src/service/evidence/mod.rs",
     "            if size > left {", "            if size > left + (1 << 40) {", "a_small_signature_is_found_among_large_ones_and_the_rest_is_told"),
    ("large evidence is read first", "src/service/evidence/items.rs",
     "pieces.sort_by_key(|item| item.read_size(limits));", "pieces.sort_by_key(|item| std::cmp::Reverse(item.read_size(limits)));",
     "a_small_signature_is_found_among_large_ones_and_the_rest_is_told"),
    ("what is inside is opened whatever was signed", "src/service/verify.rs",
     "Verdict::Deny(denials) => denials.iter().all(|denial| denial.reason == Reason::LockMismatch),", "AdmissionVerdict::Deny(_) => true,",
     "nothing_inside_is_opened_without_a_good_signature"),
    ("a slow registry may have every slot", "src/service/fair_queue.rs",
     "if count_of(&self.hosts, &party.host) >= bounds.host {", "if count_of(&self.hosts, &party.host) >= bounds.all {", "a_slow_registry_uses_up_its_own_slots_only"),
    ("a namespace may have every slot", "src/service/fair_queue.rs",
     "if count_of(&self.namespaces, &party.namespace) >= bounds.namespace ||", "if count_of(&self.namespaces, &party.namespace) >= bounds.all ||",
     "a_namespace_that_floods_waits_behind_itself"),
    ("one namespace waits for another's question", "src/webhook/admission_check.rs",
     "self.in_flight.try_get_with((key.clone(), check.ask.namespace.clone()), asking)", "self.in_flight.try_get_with((key.clone(), String::new()), asking)",
     "a_namespace_that_floods_waits_behind_itself"),
    ("a namespace may remember everything", "src/webhook/verdict_cache.rs",
     "if after > NAMESPACE_CACHE_BYTES {", "if after > NAMESPACE_CACHE_BYTES * 100 {", "no_namespace_forgets_what_another_found_out"),
    ("what cannot be read is nobody's business", "src/core/policy/scope.rs",
     "governs_use(self.rules(), scope.used_as, scope.namespace)", "false",
     "what_cannot_be_read_is_refused_by_every_policy_of_its_use"),
    ("a policy that cannot be used says nothing", "src/core/policy/evaluate.rs",
     "if let Some(fault) = policy.fault_message() {", "if let Some(fault) = policy.fault_message().filter(|_| false) {", "a_policy_that_cannot_be_used_refuses_what_it_governs"),
    ("a registry that fails denies nothing", "src/core/policy/evaluate.rs",
     "policies.iter().filter(|policy| policy.governs_scope(scope)).map(refuse).collect();", "policies.iter().filter(|_| false).map(refuse).collect();",
     "a_registry_that_fails_is_a_denial_by_everybody"),
    ("every denial is only a warning", "src/webhook/review_response.rs",
     "(ReportOutcome::Denied, _) if report.is_admitted() =>", "(ReportOutcome::Denied, _) if report.is_admitted() || !report.denials().is_empty() =>",
     "a_denial_is_403_with_every_cause"),
    ("the ungoverned always passes", "src/webhook/review_response.rs",
     "(ReportOutcome::Ungoverned, NoMatchAction::Deny) => AdmissionEffect { causes: vec![self.no_match_denial()], warnings: Vec::new() },",
     "(ReportOutcome::Ungoverned, NoMatchAction::Deny) => AdmissionEffect::default(),", "the_installation_says_what_becomes_of_the_ungoverned"),
    ("ephemeral containers are not looked at", "src/webhook/workload/images.rs",
     '["initContainers", "containers", "ephemeralContainers"]', '["initContainers", "containers"]', "every_image_of_a_pod_is_found"),
    ("an image may come back as something else", "src/webhook/workload/images.rs",
     "(old.used_as, &old.reference) == (image.used_as, &image.reference)", "old.reference == image.reference", "only_what_an_update_adds_is_judged"),
    ("the cluster cannot start without the webhook", "src/controller/webhook_configuration/entries.rs",
     'vec!["kube-system", namespace]', "vec![namespace]", "nothing_reaches_the_webhook_from_where_the_cluster_starts"),
    ("a certificate is shown before it is trusted", "src/controller/webhook_configuration/certificate_rotation.rs",
     "return if known { CertificateRotationStep::Promote } else { CertificateRotationStep::Idle };", "return if known || announced_since.is_none() { CertificateRotationStep::Promote } else { CertificateRotationStep::Idle };",
     "a_renewal_has_three_steps_and_trust_never_lags_behind"),
    ("one replica is enough to enforce", "src/controller/policy_enforcement.rs",
     "match announced.iter().find(|(_, announced)| !agrees(announced)) {", "match announced.iter().take(1).find(|(_, announced)| !agrees(announced)) {", "a_generation_is_in_force_when_every_replica_carries_it"),
    ("who may suspend may send Secrets elsewhere", "src/webhook/packed_bundle.rs",
     "PackedBundleSpec { suspend, interval, timeout, history, ..old.clone() } == *new", "old.source == new.source",
     "secrets_are_asked_about_again_when_their_use_changes"),
    ("an inline lock is not looked at", "src/webhook/packed_bundle.rs",
     "packing.check_lock(&lock).err().and_then(|error| shape(error.to_string()))", "None", "an_inline_lock_is_looked_at"),
    ("a connection that brings nothing stays", "src/listener/connection_limiter.rs",
     "if seen.has_answered { bounds.idle } else { bounds.head };", "bounds.idle;", "what_never_becomes_a_request_is_closed"),
    ("an address may have every connection", "src/listener/connection_limiter.rs",
     "if own >= self.bounds.connections_per_address {", "if own >= usize::MAX {", "who_makes_room_is_missed_least"),
    ("a client of the authority may have any name", "src/listener/tls.rs",
     "if self.has_allowed_common_name(end) { Ok(verified) }", "if self.has_allowed_common_name(end) || end.len() > 1 { Ok(verified) }", "only_clients_of_the_authority_are_heard"),
    ("a body may take any time", "src/webhook/request_body.rs",
     "timeout(self.bounds.arrive, collect_body(body, most))", "timeout(Duration::MAX, collect_body(body, most))", "a_slow_client_is_cut_off"),
    ("a body without a length weighs nothing", "src/webhook/request_body.rs",
     "announced.map_or(Some(MAX_REVIEW), ", "announced.map_or(Some(MIN_RESERVED_BYTES), ", "bodies_are_weighed_before_they_are_read"),
    ("a review may be of any content type", "src/webhook/request_body.rs",
     "if !is_json(request.headers()) {", "if request.headers().len() > 1000 {", "only_json_is_read"),
    ("a review may be of any version", "src/webhook/review_request.rs",
     "!= (API_VERSION, \"AdmissionReview\") {", "!= (envelope.api_version.as_str(), \"AdmissionReview\") {", "what_is_no_review_gets_no_verdict"),
    ("an empty uid is one", "src/webhook/review_request.rs",
     "if raw.uid.is_empty() {", "if raw.uid == \" \" {", "what_is_no_review_gets_no_verdict"),
    ("a review may have any number of values", "src/webhook/review_request.rs",
     "let objects = if values > MAX_VALUES {", "let objects = if values > usize::MAX - 1 {", "a_review_of_eight_megabytes_is_judged_or_refused"),
    ("what is neither created nor updated is let go", "src/webhook/server.rs",
     "    if request.is_delete() {", "    if request.is_delete() || !request.is_create_or_update() {", "what_nobody_judges_here_is_refused"),
    ("a lock may be packed any number of times", "src/core/pack/mod.rs",
     "if count > limits.platform_artifacts {", "if count > usize::MAX - 1 {", "what_would_be_packed_too_often_is_refused"),
    ("locks are kept in memory", "src/controller/cached_bundle.rs",
     "INLINE_LOCK_PLACEHOLDER.clone_into(text);", "let _ = (text, INLINE_LOCK_PLACEHOLDER);", "an_inline_lock_is_not_kept"),
    ("metrics name everything", "src/controller/metrics.rs",
     "    if names {\n        return all.collect();", "    if names || !names {\n        return all.collect();", "nothing_is_named_that_was_not_to_be"),
    ("a tag's manifest may contradict the registry", "src/oci/remote/manifests.rs",
     "            None => return Ok((head, bytes)),", "            _ if tries_left < 9 => return Ok((head, bytes)),\n            None => return Ok((head, bytes)),", "the_digest_header_is_not_believed"),
    ("a contradiction is final at once", "src/oci/remote/manifests.rs",
     "    let mut tries_left = 1;", "    let mut tries_left = 0;", "the_digest_header_is_not_believed"),
    ("an error of writing the log counts", "src/telemetry/stderr.rs",
     "        let _ = io::stderr().write_all(bytes);\n        Ok(bytes.len())", "        assert!(io::stderr().write_all(bytes).is_ok());\n        Ok(bytes.len())", "streams::"),
    ("who never pushed blocks another namespace", "src/controller/duplicate_destination.rs",
     "        elsewhere = elsewhere || has_pushed(other);", "        elsewhere = true;", "what_never_pushed_blocks_nobody_in_another_namespace"),
    ("keyless signing needs no right", "src/webhook/required_access.rs",
     'account.map(|name| RequiredAccess { field: "spec.signing.keyless".to_owned(), name, access: AccessKind::CreateToken }),', "account.and(None::<RequiredAccess>),", "keyless_signing_is_for_whom_may_make_tokens_of_the_account"),
    ("a namespace may fill all places to sign", "src/controller/sign_queue.rs",
     "has(one) < limits.max_concurrent_per_namespace);", "has(one) < limits.max_concurrent.max(limits.max_concurrent_per_namespace));", "a_namespace_that_floods_waits_for_itself_and_nobody_for_it"),
    ("sign Jobs are not counted", "src/controller/sign_queue.rs",
     "limits.max_concurrent.saturating_sub(running.values().sum());", "limits.max_concurrent;", "a_new_process_counts_what_runs"),
    ("a pack Job's folder may grow", "src/controller/resources/pod.rs",
     "size_limit: Some(Quantity(bytes.to_string()))", "size_limit: Some(Quantity(bytes.to_string())).filter(|_| bytes == 0)", "the_pack_job_takes_no_more_room_on_its_node_than_its_lock_needs"),
    ("a body may drip", "src/http/transfer_rate.rs",
     "if slow.bytes < enough { Err(slow) }", "if slow.bytes > enough && slow.bytes < enough { Err(slow) }", "a_drip_is_ended_by_its_rate_where_one_is_asked_for"),
    ("tenants are told why there is no connection", "src/http/client.rs",
     "if self.connection_error_detail == ConnectionErrorDetail::OutcomeOnly { error.without_network_details() } else { error }", "if self.connection_error_detail == ConnectionErrorDetail::OutcomeOnly && false { error.without_network_details() } else { error }", "why_there_is_no_connection_is_not_told_to_those_who_chose_the_address"),
    ("helpers inherit our secrets", "src/process.rs",
     "        command.env_remove(secret);", "        let _ = secret;", "a_helper_inherits_no_secret_of_ours"),
    ("plain HTTP is for every registry", "src/cli/plain_http.rs",
     "known => Err(OciError::Invalid(ambiguous_host_message(known, host)))", "_ => Ok(true)", "plain_http_is_for_the_registries_that_it_names"),
    ("a document may be read in two ways", "src/service/verify.rs",
     "    root.parse_document(limits)?;\n", "", "threats::content::a_document_that_two_readers_could_read_differently_is_refused"),
    ("verdicts are remembered for whoever asks", "src/webhook/admission_check.rs",
     "credentials: source.credentials,", "credentials: source.credentials.filter(|_| false),", "what_was_verified_with_one_namespaces_credentials_opens_nothing_for_another"),
]


def squeezed(code):
    """The code without what the formatter adds or takes away (white space, commas before a closing bracket, broken strings), and where
    each of its characters stands in the code."""
    kept = [(at, c) for at, c in enumerate(re.sub(r"\\\n\s*", lambda found: " " * len(found[0]), code)) if not c.isspace()]
    pairs = zip(kept, kept[1:] + [(len(code), "")])
    kept = [one for one, (_, after) in pairs if not (one[1] == "," and after and after in ")]}")]
    return "".join(c for _, c in kept), [at for at, _ in kept]


def changed(root, file, old, new):
    """The code of a file, and what it is with the change. The code must have `old` exactly once."""
    with open(os.path.join(root, file), encoding="utf-8") as source:
        code = source.read()
    (text, places), (wanted, _) = squeezed(code), squeezed(old)
    if text.count(wanted) != 1:
        sys.exit(f"{file}: {text.count(wanted)} times: {old}")
    begin = text.index(wanted)
    first, last = places[begin], places[begin + len(wanted) - 1]
    return code, code[:first] + new + code[last + 1:]


def write(path, code):
    with open(path, "w", encoding="utf-8") as target:
        target.write(code)


def where(checkout, test):
    """A test beside the code needs neither the binary nor the other tests."""
    name = f"fn {test.rsplit('::', 1)[-1]}("
    for folder, _, files in os.walk(os.path.join(checkout, "src")):
        for file in files:
            with open(os.path.join(folder, file), encoding="utf-8") as code:
                if name in code.read():
                    return ["--lib"]
    return []


def main():
    if sys.argv[1:] == ["--check"]:
        for _, file, old, new, _ in TABLE:
            changed(ROOT, file, old, new)
        return
    wanted = sys.argv[1:]
    rows = [row for row in TABLE if not wanted or any(word in row[0] for word in wanted)]
    target = os.environ.get("MUTATIONS_TARGET", os.path.join(ROOT, "target", "mutations"))
    environment = {**os.environ, "CARGO_TARGET_DIR": target}
    survivors = 0
    with tempfile.TemporaryDirectory() as checkout:
        subprocess.run(["git", "-C", ROOT, "archive", "--format=tar", "-o", os.path.join(checkout, "head.tar"), "HEAD"], check=True)
        subprocess.run(["tar", "-xf", "head.tar"], cwd=checkout, check=True)
        for what, file, old, new, test in rows:
            path = os.path.join(checkout, file)
            code, without = changed(checkout, file, old, new)
            write(path, without)
            result = subprocess.run(["cargo", "test", "--locked", "--quiet", *where(checkout, test), test], cwd=checkout, env=environment, capture_output=True, text=True)
            output = result.stdout + result.stderr
            write(path, code)
            if "could not compile" in output:
                sys.exit(f"{what}: does not compile\n{output}")
            caught = result.returncode != 0 and "test result: FAILED" in output
            survivors += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'}  {what}: {test}", flush=True)
    print(f"{len(rows) - survivors} of {len(rows)} deleted checks made their test fail")
    sys.exit(survivors != 0)


main()
