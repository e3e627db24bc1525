//go:build linux

package conformance

// exceptions are scenarios that cannot pass, with the reasons.
var exceptions = map[cell]map[string]string{
	{modern, "legacy"}: {
		"input-required-result-basic-elicitation": "it wants a name for the request that requests of legacy servers do not have",
	},
}

// pending are scenarios that do not pass yet, with the reasons. The name everything
// stands for all of a cell.
var pending = map[cell]map[string]string{
	{legacy, "legacy"}: {everything: "/mcp does not exist yet"},
	{modern, "modern"}: {everything: "/mcp does not exist yet"},
	{legacy, "modern"}: {everything: "/mcp does not exist yet"},
	{modern, "legacy"}: {everything: "/mcp does not exist yet"},
}

const everything = "*"
