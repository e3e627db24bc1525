// Package expect checks whether a tool's result is what a fleet file expects
// of it: any result without an error, a text in it, or a CEL expression over
// it.
//
// Expectations come from users. Parse refuses one that could never be checked,
// and an expression that runs for too long ends with an error. The package is
// pure, and its functions may be called at any time.
package expect

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"cel.dev/cel-go/cel"
)

// OK is the expectation that any result without isError meets.
const OK = "ok"

// celPrefix begins an expectation that is a CEL expression.
const celPrefix = "cel:"

const (
	// maxExpression bounds an expression, in bytes.
	maxExpression = 8 << 10
	// maxCost bounds what an expression may cost, in CEL's units. An operator
	// costs one, and a text costs more the longer it is. All of it takes some 50 ms.
	maxCost = 1_000_000
	// maxQuote bounds what an error quotes of a result, in bytes.
	maxQuote = 200
)

// Expectation is what a result must be like.
type Expectation struct {
	text    string      // OK, or a text that the result must contain
	program cel.Program // nil: it is no expression
	source  string      // of program
}

// Parse reads an expectation: "ok", "cel:" and an expression, or any other text
// that the result's text must contain. The error says what is wrong with it.
func Parse(text string) (*Expectation, error) {
	source, ok := strings.CutPrefix(text, celPrefix)
	switch {
	case text == "":
		return nil, errors.New("must be ok, a text that the result contains, or cel: and an expression")
	case !ok:
		return &Expectation{text: text}, nil
	}
	program, err := compile(strings.TrimSpace(source))
	if err != nil {
		return nil, err
	}
	return &Expectation{program: program, source: strings.TrimSpace(source)}, nil
}

// compile compiles an expression over the variable result.
func compile(source string) (cel.Program, error) {
	switch {
	case source == "":
		return nil, errors.New("cel: needs an expression after it, as cel:result.content[0].text == 'pong'")
	case len(source) > maxExpression:
		return nil, fmt.Errorf("the expression is %d bytes long, and at most %d are allowed", len(source), maxExpression)
	}
	env, err := cel.NewEnv(cel.Variable("result", cel.DynType), cel.ASTValidators(cel.ValidateRegexLiterals()))
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	ast, issues := env.Compile(source)
	if issues.Err() != nil {
		first := issues.Errors()[0]
		return nil, fmt.Errorf("not a CEL expression over the variable result: column %d: %s", first.Location.Column()+1, oneLine(first.Message))
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("the expression must be true or false, and it is of type %s", t)
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost))
	if err != nil {
		return nil, fmt.Errorf("not a CEL expression over the variable result: %s", oneLine(err.Error()))
	}
	return program, nil
}

// Check returns nil if a CallToolResult, in JSON, is as expected. Otherwise the
// error says what was expected and what came. hide removes secrets from a text.
func (e *Expectation) Check(result []byte, hide func(string) string) error {
	var tree any
	if err := json.Unmarshal(result, &tree); err != nil {
		return fmt.Errorf("expected a result, got invalid JSON: %w", err)
	}
	got := readResult(tree)
	got.hide = hide
	switch {
	case e.program != nil:
		return e.evaluate(tree, got)
	case e.text == OK:
		if got.isError {
			return fmt.Errorf("expected ok, got %s", got)
		}
	case got.isError || !strings.Contains(got.text, e.text):
		return fmt.Errorf("expected a result with the text %s, got %s", quote(e.text), got)
	}
	return nil
}

func (e *Expectation) evaluate(tree any, got outcome) error {
	// Most servers leave isError out of results without an error, and MCP says
	// that this means false. An expression over it must not fail then.
	if object, ok := tree.(map[string]any); ok {
		if _, has := object["isError"]; !has {
			object["isError"] = false
		}
	}
	value, _, err := e.program.Eval(map[string]any{"result": tree})
	if err != nil {
		return fmt.Errorf("expected %s, which ended with %s; got %s", quote(e.source), quote(got.hide(err.Error())), got)
	}
	switch holds, isBool := value.Value().(bool); {
	case !isBool:
		return fmt.Errorf("expected %s to be true or false, and it is of type %s; got %s", quote(e.source), value.Type().TypeName(), got)
	case !holds:
		return fmt.Errorf("expected %s, got %s", quote(e.source), got)
	}
	return nil
}

// outcome is the part of a result that errors quote.
type outcome struct {
	isError bool
	text    string // of all its contents, one a line
	hide    func(string) string
}

func (o outcome) String() string {
	kind := "a result"
	if o.isError {
		kind = "isError"
	}
	if o.text == "" {
		return kind + " without text"
	}
	return kind + ": " + quote(o.hide(o.text))
}

// readResult reads a CallToolResult. What has another form than it should is left
// out.
func readResult(tree any) outcome {
	var out outcome
	object, _ := tree.(map[string]any)
	out.isError, _ = object["isError"].(bool)
	var texts []string
	contents, _ := object["content"].([]any)
	for _, c := range contents {
		content, _ := c.(map[string]any)
		if resource, ok := content["resource"].(map[string]any); ok {
			content = resource // an embedded one
		}
		if text, ok := content["text"].(string); ok {
			texts = append(texts, text)
		}
	}
	out.text = strings.Join(texts, "\n")
	return out
}

// quote returns a text in quotes, in one line and shortened.
func quote(s string) string {
	s = oneLine(s)
	if len(s) > maxQuote {
		s = strings.ToValidUTF8(s[:maxQuote], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}

// oneLine replaces runs of white space by one blank.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, unicode.IsSpace), " ")
}
