//go:build linux

package conformance

// exceptions are scenarios that cannot pass, with the reasons.
var exceptions = map[cell]map[string]string{
	{modern, "legacy"}: {
		"input-required-result-basic-elicitation": "it wants a name for the request that requests of legacy servers do not have",
	},
}

// warnings are checks of what the specification recommends that cannot pass, with the
// reasons.
var warnings = map[cell]map[string]string{
	{modern, "legacy"}: {
		"sep-2322-ignore-unexpected-params":                          "an answer to a request that was not made has no place at a legacy server",
		"sep-2575-server-sends-prompts-list-changed-on-subscription": "the replica whose prompts change is that of one call",
		"sep-2575-server-sends-tools-list-changed-on-subscription":   "the replica whose tools change is that of one call",
	},
}

// pending are scenarios that do not pass yet, with the reasons.
var pending = map[cell]map[string]string{}

// exceptedChecks are checks of clients that cannot pass, with the reasons.
var exceptedChecks = map[cell]map[string]string{
	{modern, "legacy"}: {
		"changes":       "the replica whose lists change is that of one call",
		"subscriptions": "the replica whose resource changes is that of one call",
	},
	{modern, shared}: {
		"sampling":    "a server that clients share does not know which one to ask",
		"elicitation": "a server that clients share does not know which one to ask",
		"roots":       "a server that clients share does not know which one to ask",
		"isolation":   "a server that clients share does not know which one to ask",
		"logging":     "a log message of a legacy server does not say which request it is about",
	},
}
