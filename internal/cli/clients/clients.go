// Package clients knows how MCP clients are configured: where their files are,
// and how an entry for an MCP server looks in them. It adds an entry to the text
// of such a file, and leaves every other byte of it as it is. The formats are
// those that the clients' documentation gave in 2026-11; docs/MCP.md has the
// links.
//
// The package reads and writes no files, and has no state.
package clients

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Client is an MCP client.
type Client struct {
	Name  string // as --client takes it
	Title string

	toml    bool
	section []string // path of the object that holds the entries
	url     string   // the key of the URL; "" if the client speaks stdio only
	typed   bool     // entries say their type
	file    func(p Place) string
	project string // its file in a project, "" if there is none
	after   string // what to do after a change
}

// Place is a machine with its user.
type Place struct {
	OS     string // runtime.GOOS
	Home   string
	Lookup func(string) (string, bool) // finds environment variables
}

// Server is what an entry points to.
type Server struct {
	Name    string
	URL     string   // of the MCP endpoint
	Command []string // that connects to it over stdio
	Stdio   bool     // use the command, also if the client speaks HTTP
}

var all = []Client{
	{Name: "claude-code", Title: "Claude Code", section: []string{"mcpServers"}, url: "url", typed: true,
		file:    func(p Place) string { return filepath.Join(p.env("CLAUDE_CONFIG_DIR", p.Home), ".claude.json") },
		project: ".mcp.json"},
	{Name: "claude-desktop", Title: "Claude Desktop", section: []string{"mcpServers"},
		file:  func(p Place) string { return filepath.Join(p.config(), "Claude", "claude_desktop_config.json") },
		after: "restart Claude Desktop to see the change"},
	{Name: "codex", Title: "Codex", section: []string{"mcp_servers"}, url: "url", toml: true,
		file: func(p Place) string {
			return filepath.Join(p.env("CODEX_HOME", filepath.Join(p.Home, ".codex")), "config.toml")
		}},
	{Name: "cursor", Title: "Cursor", section: []string{"mcpServers"}, url: "url",
		file:    func(p Place) string { return filepath.Join(p.Home, ".cursor", "mcp.json") },
		project: ".cursor/mcp.json"},
	{Name: "gemini-cli", Title: "Gemini CLI", section: []string{"mcpServers"}, url: "httpUrl",
		file: func(p Place) string { return filepath.Join(p.Home, ".gemini", "settings.json") }},
	{Name: "vscode", Title: "VS Code", section: []string{"servers"}, url: "url", typed: true,
		file:    func(p Place) string { return filepath.Join(p.config(), "Code", "User", "mcp.json") },
		project: ".vscode/mcp.json"},
	{Name: "windsurf", Title: "Windsurf", section: []string{"mcpServers"}, url: "serverUrl",
		file: func(p Place) string { return filepath.Join(p.Home, ".codeium", "windsurf", "mcp_config.json") }},
	{Name: "zed", Title: "Zed", section: []string{"context_servers"}, url: "url",
		file: func(p Place) string {
			if p.OS == "windows" {
				return filepath.Join(p.config(), "Zed", "settings.json")
			}
			return filepath.Join(p.env("XDG_CONFIG_HOME", filepath.Join(p.Home, ".config")), "zed", "settings.json")
		}},
}

// Generic is the form that most clients read.
var Generic = Client{Name: "json", Title: "most clients", section: []string{"mcpServers"}, url: "url", typed: true}

// Names returns the names of the clients.
func Names() (names []string) {
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

// Find returns a client by its name.
func Find(name string) (Client, bool) {
	i := slices.IndexFunc(all, func(c Client) bool { return c.Name == name })
	if i < 0 {
		return Client{}, false
	}
	return all[i], true
}

// File returns the path of the client's file for a user.
func (c *Client) File(p Place) string {
	if c.file == nil {
		return ""
	}
	return c.file(p)
}

// HTTP reports whether the client connects to a URL itself.
func (c *Client) HTTP() bool { return c.url != "" }

// Project returns the path of the client's file in a project, or "".
func (c *Client) Project() string { return c.project }

// After returns what the user does after a change, or "".
func (c *Client) After() string { return c.after }

// Format returns "json" or "toml".
func (c *Client) Format() string {
	if c.toml {
		return "toml"
	}
	return "json"
}

func (p Place) env(name, otherwise string) string {
	if value, ok := p.Lookup(name); ok && filepath.IsAbs(value) {
		return value
	}
	return otherwise
}

// config returns the directory for the settings of a user's programs.
func (p Place) config() string {
	switch p.OS {
	case "darwin":
		return filepath.Join(p.Home, "Library", "Application Support")
	case "windows":
		if dir, ok := p.Lookup("APPDATA"); ok && dir != "" {
			return dir
		}
		return filepath.Join(p.Home, "AppData", "Roaming")
	}
	return p.env("XDG_CONFIG_HOME", filepath.Join(p.Home, ".config"))
}

// field is a key of an entry. The value is a string, or a list of strings.
type field struct {
	key   string
	value any
}

// transport are the keys that say how to reach a server. Those of another way
// are removed from an entry.
var transport = []string{"type", "url", "httpUrl", "serverUrl", "command", "args", "source"}

// entry returns the fields of the entry for a server.
func (c *Client) entry(s Server) []field {
	if c.HTTP() && !s.Stdio {
		if c.typed {
			return []field{{"type", "http"}, {c.url, s.URL}}
		}
		return []field{{c.url, s.URL}}
	}
	fields := []field{{"command", s.Command[0]}, {"args", s.Command[1:]}}
	if c.typed {
		fields = append([]field{{"type", "stdio"}}, fields...)
	}
	return fields
}

// Snippet returns the text of a file with only the entry.
func (c *Client) Snippet(s Server) string {
	text, err := c.Add("", s)
	if err != nil {
		return "" // cannot happen: an empty file is valid
	}
	return text
}

// Add returns the text of a client's file with the entry for a server. It keeps
// every other byte, and the keys of an existing entry that do not say how to reach
// the server. A text that cannot be parsed is a *ParseError.
func (c *Client) Add(text string, s Server) (string, error) {
	const mark = "\ufeff"
	text, marked := strings.CutPrefix(text, mark)
	add := addJSON
	if c.toml {
		add = addTOML
	}
	text, err := add(text, append(slices.Clone(c.section), s.Name), c.entry(s))
	if err != nil {
		return "", err
	}
	if marked {
		text = mark + text
	}
	return text, nil
}

// ParseError is a file that cannot be parsed, or not extended.
type ParseError struct {
	Line, Column int // from 1; 0 if they are not known
	Reason       string
}

func (e *ParseError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}
