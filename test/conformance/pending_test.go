//go:build linux

package conformance

// exceptions are scenarios that cannot pass, with the reasons.
var exceptions = map[cell]map[string]string{
	{modern, "legacy"}: {
		"input-required-result-basic-elicitation": "it wants a name for the request that requests of legacy servers do not have",
	},
}

// pending are scenarios that do not pass yet, with the reasons.
var pending = map[cell]map[string]string{
	{legacy, "legacy"}: reasoned("the server is shared",
		"elicitation-sep1034-defaults", "elicitation-sep1330-enums", "tools-call-elicitation", "tools-call-sampling", "tools-call-with-logging"),
	{modern, "legacy"}: reasoned("the server is shared",
		"input-required-result-basic-list-roots", "input-required-result-basic-sampling", "input-required-result-capability-check",
		"input-required-result-ignore-extra-params", "input-required-result-missing-input-response", "input-required-result-multi-round",
		"input-required-result-multiple-input-requests", "input-required-result-non-tool-request", "input-required-result-request-state",
		"input-required-result-result-type", "input-required-result-tampered-state", "server-stateless"),
}

// pendingChecks are checks of clients that do not pass yet with every SDK, with the
// reasons.
var pendingChecks = map[cell]map[string]string{
	{legacy, "legacy"}: reasoned("the server is shared, and controllers do not share what sessions want",
		"elicitation", "isolation", "logging", "roots", "sampling", "subscriptions"),
	{legacy, "modern"}: reasoned("controllers do not share what sessions want", "logging", "subscriptions"),
	{modern, "legacy"}: reasoned("the server is shared", "elicitation", "isolation", "logging", "roots", "sampling"),
}

func reasoned(reason string, names ...string) map[string]string {
	m := map[string]string{}
	for _, name := range names {
		m[name] = reason
	}
	return m
}
