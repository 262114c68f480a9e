//! What the chart lets packgate and people do, as the API server sees it.

use crate::support::{Test, installation::NAMESPACE, namespace::kubectl};

const CONTROLLER: &str = "system:serviceaccount:packgate-system:packgate-controller";
const WEBHOOK: &str = "system:serviceaccount:packgate-system:packgate-webhook";
const SIGNER: &str = "system:serviceaccount:packgate-system:packgate-signer";

#[test]
fn nobody_may_more_than_is_needed() {
    let Some(test) = Test::start("nobody_may_more_than_is_needed") else {
        return;
    };
    test.installation();
    test.grant();
    for (user, role) in [("jane", "edit"), ("joe", "view")] {
        test.namespace
            .kubectl([
                "create",
                "rolebinding",
                user,
                "--clusterrole",
                role,
                "--user",
                user,
            ])
            .run()
            .ok();
    }
    let (tenant, system, other) = (test.namespace.name.as_str(), NAMESPACE, "default");
    for (expected, user, namespace, what) in [
        ("no", CONTROLLER, other, "get secrets"),
        ("yes", CONTROLLER, tenant, "get secrets"),
        ("no", CONTROLLER, tenant, "list secrets"),
        ("no", CONTROLLER, tenant, "create secrets"),
        ("yes", CONTROLLER, system, "list secrets"),
        ("yes", CONTROLLER, other, "create jobs.batch"),
        ("no", CONTROLLER, other, "list configmaps"),
        ("no", CONTROLLER, other, "create pods"),
        (
            "yes",
            CONTROLLER,
            other,
            "patch packedbundles.packgate.dev --subresource status",
        ),
        ("no", CONTROLLER, other, "patch packedbundles.packgate.dev"),
        ("no", CONTROLLER, other, "delete packedbundles.packgate.dev"),
        (
            "yes",
            CONTROLLER,
            other,
            "patch bundlepolicies.packgate.dev --subresource status",
        ),
        ("no", CONTROLLER, other, "patch bundlepolicies.packgate.dev"),
        (
            "yes",
            CONTROLLER,
            system,
            "watch clusterbundlepolicies.packgate.dev",
        ),
        ("yes", CONTROLLER, system, "get namespaces/kube-system"),
        (
            "yes",
            CONTROLLER,
            system,
            "update leases.coordination.k8s.io/packgate-controller",
        ),
        (
            "no",
            CONTROLLER,
            system,
            "update leases.coordination.k8s.io/other",
        ),
        (
            "no",
            CONTROLLER,
            system,
            "create leases.coordination.k8s.io",
        ),
        (
            "yes",
            CONTROLLER,
            system,
            "patch validatingwebhookconfigurations.admissionregistration.k8s.io/packgate",
        ),
        (
            "no",
            CONTROLLER,
            system,
            "patch validatingwebhookconfigurations.admissionregistration.k8s.io/other",
        ),
        (
            "no",
            CONTROLLER,
            system,
            "delete validatingwebhookconfigurations.admissionregistration.k8s.io/packgate",
        ),
        ("no", WEBHOOK, other, "get secrets"),
        ("yes", WEBHOOK, tenant, "get secrets"),
        ("no", WEBHOOK, tenant, "list secrets"),
        ("yes", WEBHOOK, system, "get secrets/packgate-webhook-tls"),
        ("no", WEBHOOK, system, "get secrets/packgate-platform-key"),
        (
            "no",
            WEBHOOK,
            system,
            "patch configmaps/packgate-platform-key",
        ),
        (
            "no",
            WEBHOOK,
            system,
            "patch leases.coordination.k8s.io/packgate-controller",
        ),
        ("no", WEBHOOK, other, "create pods"),
        ("no", SIGNER, system, "get secrets"),
        ("no", SIGNER, system, "get configmaps"),
        (
            "yes",
            "jane",
            system,
            "get configmaps/packgate-platform-key",
        ),
        ("no", "jane", system, "get configmaps/packgate-config"),
        ("no", "jane", system, "get secrets/packgate-platform-key"),
        (
            "yes",
            "jane",
            other,
            "get clusterbundlepolicies.packgate.dev",
        ),
        (
            "no",
            "jane",
            other,
            "patch clusterbundlepolicies.packgate.dev",
        ),
        ("yes", "jane", tenant, "create bundlepolicies.packgate.dev"),
        ("yes", "jane", tenant, "create packedbundles.packgate.dev"),
        (
            "no",
            "jane",
            tenant,
            "patch bundlepolicies.packgate.dev --subresource status",
        ),
        (
            "no",
            "jane",
            tenant,
            "patch packedbundles.packgate.dev --subresource status",
        ),
        ("yes", "joe", tenant, "list bundlepolicies.packgate.dev"),
        ("no", "joe", tenant, "delete bundlepolicies.packgate.dev"),
    ] {
        let question = what
            .split(' ')
            .chain(["--as", user, "--namespace", namespace]);
        let said = kubectl(["auth", "can-i"].into_iter().chain(question)).run();
        assert_eq!(
            said.stdout.trim(),
            expected,
            "may {user} {what} in {namespace}? {said}"
        );
    }
}
