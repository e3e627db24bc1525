package fleetfile

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// The patterns of values in JSON Schema. In place of any scalar, a string with a
// dollar sign is allowed, since the values of its variables are unknown. The
// regular expressions use only what both Go and ECMAScript understand.
const (
	orVariable = `|\$`

	noWhite       = `[^\s\x00-\x1f\x7f]`
	wordPattern   = `^[^-\s\x00-\x1f\x7f]` + noWhite + `*$`
	textPattern   = `^[^\x00]*$`
	flagPattern   = `^(true|True|TRUE|false|False|FALSE)$`
	devicePattern = `^(/[^\s:]+(:/[^\s:]+)?(:[rwm]{1,3})?|[A-Za-z][A-Za-z0-9._-]*/[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*)$`
	autoPattern   = `^(\+?[0-9]+|auto)$`
	amountPattern = `^(\+?[0-9]+|[0-9]+\.?[0-9]*%|\.[0-9]+%)$`
	sharePattern  = `^([0-9]+\.?[0-9]*|\.[0-9]+)%$`
	numberPattern = `^\+?` + decimal + `([eE][+-]?[0-9]+)?$`
	countPattern  = `^\+?[0-9]+$`
	decimal       = `([0-9]+\.?[0-9]*|\.[0-9]+)`
	coresPattern  = `^\+?` + decimal + `([eE][+-]?[0-9]+)?$`
	sizePattern   = `^` + decimal + ` *([kKmMgGtT]([iI]?[bB])?|[kKmMgGtT][iI]|[bB])? *$`
	timePattern   = `^\+?(` + decimal + `(ns|us|µs|μs|ms|s|m|h))+$|^\+?` + decimal + `([eE][+-]?[0-9]+)?$`
	sourcePaths   = `(/[^,:\n]*|\.[^,:\n]*|[a-zA-Z0-9][a-zA-Z0-9_.-]*)`
	targetPaths   = `/+[^/,:\n][^,:\n]*`
	capPattern    = `^([cC][aA][pP]_)?[A-Za-z][A-Za-z_]*$`
	mountOption   = `(ro|readonly|rw|z|Z)`
	mountPattern  = `^` + sourcePaths + `:` + targetPaths + `(:` + mountOption + `(,` + mountOption + `)*)?$`
	sourcePattern = `^` + sourcePaths + `$`
	targetPattern = `^` + targetPaths + `$`
	envPattern    = `[A-Za-z_][A-Za-z0-9_.-]*`
	labelPattern  = `^[^-\s\x00-\x1f\x7f=][^\s\x00-\x1f\x7f=]*=`
)

// form returns the schema of a value of this kind. reflected is the schema that
// reflection has made of its type, for references to other types.
func (k keyShape) form(reflected *jsonschema.Schema) *jsonschema.Schema {
	switch k.kind {
	case kindString:
		return &jsonschema.Schema{Type: "string", MinLength: new(uint64(1))}
	case kindWord:
		return text(wordPattern)
	case kindUser:
		return anyOf(text(wordPattern), &jsonschema.Schema{Type: "number", Minimum: "0"})
	case kindCommand:
		first := anyOf(&jsonschema.Schema{Type: "string", MinLength: new(uint64(1))}, &jsonschema.Schema{Extras: types("number", "boolean")})
		list := &jsonschema.Schema{Type: "array", PrefixItems: []*jsonschema.Schema{first}, Items: scalar(), MinItems: new(uint64(1))}
		return anyOf(text(`^[^ \t\n]+$`), list)
	case kindList:
		return orNothing("array", &jsonschema.Schema{Items: scalar()})
	case kindEnv:
		return pairs(
			&jsonschema.Schema{Pattern: `^` + envPattern + `$`, Not: &jsonschema.Schema{Const: replicaVariable}},
			&jsonschema.Schema{Type: "string", Pattern: `^` + envPattern + `(=|$)` + orVariable, Not: &jsonschema.Schema{Pattern: `^` + replicaVariable + `(=|$)`}},
			true)
	case kindLabels:
		return pairs(&jsonschema.Schema{Pattern: wordPattern}, text(labelPattern), false)
	case kindCapabilities:
		return orNothing("array", &jsonschema.Schema{Items: text(capPattern)})
	case kindTools:
		return orNothing("array", &jsonschema.Schema{Items: scalar()})
	case kindDevices:
		return orNothing("array", &jsonschema.Schema{Items: text(devicePattern)})
	case kindOptions:
		return orNothing("array", &jsonschema.Schema{Items: text(`^--(` + strings.Join(fleet.RunOptionNames(), "|") + `)=[^\x00-\x1f\x7f]+$`)})
	case kindMounts:
		return orNothing("array", &jsonschema.Schema{Items: anyOf(text(mountPattern), reflected.Items)})
	case kindSource:
		return text(sourcePattern)
	case kindTarget:
		return text(targetPattern)
	case kindFlag:
		return anyOf(&jsonschema.Schema{Type: "boolean"}, text(flagPattern))
	case kindChoice:
		words := &jsonschema.Schema{}
		for _, c := range k.choices {
			words.Enum = append(words.Enum, c)
			if number, err := strconv.Atoi(c); err == nil { // without quotes
				words.Enum = append(words.Enum, number)
			}
		}
		return anyOf(words, withVariable())
	case kindCount:
		n := &jsonschema.Schema{Type: "integer", Minimum: integer(k.low), Maximum: integer(k.high)}
		return anyOf(n, text(countPattern))
	case kindCounts:
		n := &jsonschema.Schema{Type: "integer", Minimum: integer(k.low), Maximum: integer(k.high)}
		name := &jsonschema.Schema{Pattern: `^[A-Za-z0-9][A-Za-z0-9_.-]*$`, MaxLength: new(uint64(63)), Not: &jsonschema.Schema{Enum: []any{"cpus", "memory", "pids"}}}
		return orNothing("object", &jsonschema.Schema{PropertyNames: name, AdditionalProperties: anyOf(n, text(countPattern))})
	case kindReplicas:
		n := &jsonschema.Schema{Type: "integer", Minimum: integer(k.low), Maximum: integer(k.high)}
		return anyOf(n, text(autoPattern))
	case kindAmount:
		n := &jsonschema.Schema{Type: "integer", Minimum: integer(k.low), Maximum: integer(k.high)}
		return anyOf(n, text(amountPattern))
	case kindShares:
		return &jsonschema.Schema{Type: "array", Items: text(sharePattern), MinItems: new(uint64(1)), MaxItems: new(uint64(maxSteps))}
	case kindNumber:
		n := &jsonschema.Schema{Type: "number", ExclusiveMinimum: integer(k.low), Maximum: integer(k.high)}
		return anyOf(n, text(numberPattern))
	case kindObject:
		return &jsonschema.Schema{Type: "object"}
	case kindSchedules:
		return orNothing("array", &jsonschema.Schema{Items: reflected.Items, MaxItems: new(uint64(maxSchedules))})
	case kindVerify:
		return orNothing("array", &jsonschema.Schema{Items: reflected.Items, MaxItems: new(uint64(maxVerifyCalls))})
	case kindCores:
		n := &jsonschema.Schema{Type: "number", ExclusiveMinimum: integer(k.low), Maximum: integer(k.high)}
		return anyOf(n, text(coresPattern))
	case kindSize:
		n := &jsonschema.Schema{Type: "number", Minimum: integer(k.low), Maximum: integer(k.high)}
		return anyOf(n, text(sizePattern))
	case kindDuration:
		n := &jsonschema.Schema{Type: "number", Minimum: seconds(k.low), Maximum: seconds(k.high)}
		return anyOf(n, text(timePattern))
	case kindSection:
		return anyOf(&jsonschema.Schema{Ref: reflected.Ref}, &jsonschema.Schema{Type: "null"})
	case kindMapping:
		return &jsonschema.Schema{Ref: reflected.Ref}
	case kindHealth:
		words := &jsonschema.Schema{Enum: []any{false, true}}
		return anyOf(&jsonschema.Schema{Ref: reflected.Ref}, words, text(`^([oO][fF][fF]|[oO][nN]|[fF][aA][lL][sS][eE]|[tT][rR][uU][eE])$`), &jsonschema.Schema{Type: "null"})
	case kindServers:
		return &jsonschema.Schema{Type: "object", AdditionalProperties: reflected.AdditionalProperties}
	case kindNamed:
		section := anyOf(reflected.AdditionalProperties, &jsonschema.Schema{Type: "null"})
		return orNothing("object", &jsonschema.Schema{AdditionalProperties: section})
	case kindTool:
		return text(toolPattern)
	case kindIgnored:
		return &jsonschema.Schema{}
	}
	panic(fmt.Sprintf("fleetfile: no form of the kind %q", k.kind)) // a mistyped tag
}

// text returns the schema of a string with a pattern, or with a variable.
func text(pattern string) *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: pattern + orVariable}
}

func withVariable() *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Pattern: `\$`} }

// scalar returns the schema of a list item: a string, number or boolean.
func scalar() *jsonschema.Schema {
	return &jsonschema.Schema{Pattern: textPattern, Extras: types("string", "number", "boolean")}
}

// pairs returns the schema of a mapping of names to strings, or a list of
// NAME=VALUE.
func pairs(name, item *jsonschema.Schema, null bool) *jsonschema.Schema {
	value := scalar()
	if null {
		value.Extras = types("string", "number", "boolean", "null")
	}
	return &jsonschema.Schema{
		Extras:               types("object", "array", "null"),
		PropertyNames:        name,
		AdditionalProperties: value,
		Items:                item,
	}
}

// orNothing allows a key without a value.
func orNothing(kind string, s *jsonschema.Schema) *jsonschema.Schema {
	s.Extras = types(kind, "null")
	return s
}

func anyOf(forms ...*jsonschema.Schema) *jsonschema.Schema { return &jsonschema.Schema{AnyOf: forms} }

// types returns the keyword for a value of several types. Package jsonschema
// itself allows only one.
func types(names ...string) map[string]any { return map[string]any{"type": names} }

func integer(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

func seconds(nanoseconds int64) json.Number {
	return json.Number(strconv.FormatFloat(time.Duration(nanoseconds).Seconds(), 'f', -1, 64))
}
