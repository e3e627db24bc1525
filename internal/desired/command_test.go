package desired

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcpfleet/mcpfleet/internal/fleet"
)

// Every command has an example here, with a value in every field.
func TestCommands(t *testing.T) {
	match := Match{ETags: []string{"1.2"}, New: true}
	x, n := Subject{Server: "x"}, Subject{Node: "n"}
	examples := []struct {
		command Command
		tag     string
		subject Subject
		text    string
	}{
		{BeginTenure{"c", "n", "cl", 3, 7}, "lead", Subject{}, "begin the tenure of controller n"},
		{PutServers{map[fleet.ServerName]fleet.Spec{"x": fullSpec()}, "x", map[fleet.GatewayName]fleet.Gateway{"g": fullGateway()}, match, true}, "put_servers", Subject{}, "put all servers"},
		{PutServer{"x", fullSpec(), match, true}, "put_server", x, "put server x"},
		{DeleteServer{"x", match}, "delete", x, "delete server x"},
		{Scale{"x", 4, match}, "scale", x, "scale server x"},
		{Restart{"x", "k", match}, "restart", x, "restart server x"},
		{Rollback{"x", 2, "k", match}, "rollback", x, "roll back server x"},
		{SetNode{"n", Drain, noon}, "node", n, "drain node n"},
		{EndRollout{"x", 2, 3}, "rolled_out", x, "end the rollout of server x"},
		{SetCatalogue{"x", 2, &fleet.Catalogue{Hash: "h", Tools: [][]byte{[]byte("{}")}}}, "catalogue", x, "keep the catalogue of server x"},
		{SetKnown{[]fleet.NodeID{"n"}}, "known", Subject{}, "remember the nodes in use"},
		{SetTarget{"x", 4, 5, "r"}, "target", x, "set the target of server x"},
		{SetFloor{"x", 4, noon, match}, "floor", x, "set a floor of server x"},
		{FailRollout{"x", 2, 3, "r", true}, "rollback_failed", x, "give up the rollout of server x"},
		{SetRollout{"x", PauseRollout, match}, "rollout", x, "pause the rollout of server x"},
		{AdvanceRollout{"x", 2, 3, true, 1, "h", "w"}, "rollout_step", x, "advance the rollout of server x"},
		{AddSealKey{1, 2, bytes.Repeat([]byte{3}, fleet.SealKeyBytes)}, "seal_key", Subject{}, "add a key for session ids"},
	}
	first := []string{"lead", "put_servers", "put_server", "delete", "scale", "restart", "rollback", "node", "rolled_out", "catalogue", "known"} // of format 1
	all := commands()
	for _, tt := range examples {
		c := tt.command
		i := slices.IndexFunc(all, func(o Command) bool { return reflect.TypeOf(o) == reflect.TypeOf(c) })
		if i < 0 {
			t.Errorf("%T is not in commands", c)
			continue
		}
		all = slices.Delete(all, i, i+1)
		if c.Tag() != tt.tag || c.Subject() != tt.subject || c.String() != tt.text {
			t.Errorf("%T: tag %q, subject %q, %q; want %q, %q, %q", c, c.Tag(), c.Subject(), c, tt.tag, tt.subject, tt.text)
		}
		if !slices.Contains(first, c.Tag()) && Needs(c) < 2 {
			t.Errorf("%T needs format %d, which does not know it", c, Needs(c))
		}
		v := reflect.ValueOf(c)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%T.%s is zero", c, v.Type().Field(i).Name)
			}
		}
		b, err := EncodeEntry(Entry{noon, c})
		if err != nil {
			t.Errorf("%T: %v", c, err)
			continue
		}
		if e, err := DecodeEntry(b); err != nil || !e.Time.Equal(noon) || !reflect.DeepEqual(e.Command, c) {
			t.Errorf("%s became %+v, %v", b, e, err)
		}
	}
	for _, c := range all {
		t.Errorf("%T has no example here", c)
	}
}

// Every type with a method apply is decoded from the log.
func TestEveryCommandIsListed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, c := range commands() {
		listed[reflect.TypeOf(c).Name()] = true
	}
	found := 0
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "apply" || len(f.Type.Params.List) != 1 {
				continue
			}
			of, ok := f.Recv.List[0].Type.(*ast.Ident)
			if !ok {
				t.Errorf("%s: a command is a value, not a pointer", name)
				continue
			}
			found++
			if !listed[of.Name] {
				t.Errorf("%s is not in commands: the log could not be read back", of.Name)
			}
		}
	}
	if found != len(listed) {
		t.Errorf("found %d commands, %d are listed", found, len(listed))
	}
}

// The log and the snapshots of the last release are read, and written the same
// byte for byte: controllers are upgraded one after the other. Those of formats 3
// and 4 have what came after that release.
func TestReleasedFormat(t *testing.T) {
	tags := map[string]bool{}
	for _, name := range []string{"released", "format3", "format4"} {
		t.Run(name, func(t *testing.T) { checkReleased(t, "testdata/"+name, tags) })
	}
	if len(tags) != len(commands()) {
		t.Errorf("the logs have %d of %d commands", len(tags), len(commands()))
	}
}

// A cluster that is upgraded keeps all that it had, whether a controller has the log or a
// snapshot of the former version. What it writes stays in the former format until a command
// of the new one comes.
func TestUpgradeToFormat4(t *testing.T) {
	var replayed *State
	do := func(s *State, e Entry) *State { return s.Apply(s.applied()+1, 2, e).State }
	for _, e := range entriesOf(t, "testdata/format3.log") {
		replayed = do(replayed, e)
	}
	snapshot, err := os.ReadFile("testdata/format3.json")
	if err != nil {
		t.Fatal(err)
	}
	restored, err := Decode(bytes.TrimSpace(snapshot))
	if err != nil {
		t.Fatal(err)
	}
	held := func() []byte {
		return encoded(t, &State{Servers: restored.Servers, Nodes: restored.Nodes, LastRevision: restored.LastRevision, Keys: restored.Keys})
	}
	before := held()
	for i, c := range []Command{
		BeginTenure{Controller: "c2", Name: "n2", Cluster: "cl", Expect: 3},
		AddSealKey{ID: 1, Secret: bytes.Repeat([]byte{1}, fleet.SealKeyBytes)},
	} {
		e := Entry{noon.Add(time.Hour), c}
		replayed, restored = do(replayed, e), do(restored, e)
		if want := []int{3, 4}[i]; replayed.Format != want || restored.Format != want {
			t.Errorf("%s: format %d of the replayed state, %d of the restored one, want %d", c, replayed.Format, restored.Format, want)
		}
	}
	if after := held(); !bytes.Equal(before, after) {
		t.Errorf("the upgrade changed\n%s into\n%s", before, after)
	}
	for _, e := range entriesOf(t, "testdata/format4.log")[1:] {
		replayed, restored = do(replayed, e), do(restored, e)
	}
	if a, b := encoded(t, replayed), encoded(t, restored); !bytes.Equal(a, b) {
		t.Errorf("the log gives\n%s, the snapshot\n%s", a, b)
	}
	if y := restored.Servers["y"]; len(restored.Gateways) != 1 || restored.Servers["z"].Catalogue(1) == nil || y == nil || y.Spec.OnLoss != fleet.OnLossReinit {
		t.Errorf("commands of the new format had no effect: %s", encoded(t, restored))
	}
}

// entriesOf returns the entries of a log.
func entriesOf(t *testing.T, file string) (all []Entry) {
	log, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(log) {
		e, err := DecodeEntry(bytes.TrimSpace(line))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, e)
	}
	return all
}

// checkReleased checks one log and the snapshot of its end, and adds the tags of its
// commands.
func checkReleased(t *testing.T, name string, tags map[string]bool) {
	log, err := os.ReadFile(name + ".log")
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := os.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var s *State
	for i, line := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		e, err := DecodeEntry(line)
		if err != nil {
			t.Fatalf("entry %d: %v", i+1, err)
		}
		if b, err := EncodeEntry(e); err != nil || !bytes.Equal(b, line) {
			t.Errorf("entry %d is written as %s, %v; want %s", i+1, b, err, line)
		}
		if want := noon.Add(time.Duration(i) * time.Second); !e.Time.Equal(want) {
			t.Errorf("entry %d is of %s, want %s", i+1, e.Time, want)
		}
		tags[e.Command.Tag()] = true
		s = s.Apply(uint64(i+1), 2, e).State
	}
	if got := encoded(t, s); !bytes.Equal(got, bytes.TrimSpace(snapshot)) {
		t.Errorf("the log gives\n%s, want\n%s", got, snapshot)
	}
	restored, err := Decode(bytes.TrimSpace(snapshot))
	if err != nil {
		t.Fatal(err)
	}
	if got := encoded(t, restored); !bytes.Equal(got, bytes.TrimSpace(snapshot)) {
		t.Errorf("read and written again, the snapshot is\n%s, want\n%s", got, snapshot)
	}
}

// Messages about a command contain no secret.
func TestCommandTextsHideSecrets(t *testing.T) {
	for _, c := range []Command{put("x", fullSpec()), putAll("x", map[fleet.ServerName]fleet.Spec{"x": fullSpec()})} {
		if strings.Contains(c.String(), fullSpec().Env["TOKEN"]) {
			t.Errorf("%T shows a secret: %s", c, c)
		}
	}
}
