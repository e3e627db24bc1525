package fleetfile

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// shape is the information in the struct tags of view.go about the keys of one
// mapping.
type shape struct {
	order []string
	keys  map[string]keyShape
}

// keyShape is the information about one key.
type keyShape struct {
	kind      kind
	low, high int64    // bounds; in nanoseconds for a duration, in bytes for a size
	choices   []string // the words of a choice
	only      string   // the key without which this one means nothing
}

// kind is the syntax of a value.
type kind string

const (
	kindString       kind = "string" // not empty
	kindWord         kind = "word"   // no white space, no hyphen in front
	kindUser         kind = "user"
	kindCommand      kind = "command" // a list, or one word
	kindList         kind = "list"
	kindEnv          kind = "env"
	kindLabels       kind = "labels"
	kindCapabilities kind = "capabilities"
	kindTools        kind = "tools"
	kindDevices      kind = "devices"
	kindOptions      kind = "options" // of podman run
	kindMounts       kind = "mounts"
	kindSource       kind = "source"
	kindTarget       kind = "target"
	kindFlag         kind = "flag"
	kindChoice       kind = "choice"
	kindCount        kind = "count"
	kindCounts       kind = "counts"   // by name
	kindReplicas     kind = "replicas" // a count, or auto
	kindAmount       kind = "amount"   // a count, or a share such as 25%
	kindShares       kind = "shares"   // of calls
	kindNumber       kind = "number"   // above its lower bound
	kindObject       kind = "object"   // any mapping
	kindSchedules    kind = "schedules"
	kindVerify       kind = "verify"
	kindCores        kind = "cores"
	kindSize         kind = "size"
	kindDuration     kind = "duration"
	kindSection      kind = "section"
	kindMapping      kind = "mapping" // a section that needs a value
	kindHealth       kind = "health"  // a section, or off
	kindServers      kind = "servers"
	kindNamed        kind = "named" // sections by name
	kindTool         kind = "tool"  // the name of one
	kindIgnored      kind = "ignored"
)

// The shapes of all mappings. They are derived from the types and never change.
var (
	documentShape  = shapeOf(reflect.TypeFor[document]())
	serverShape    = shapeOf(reflect.TypeFor[ServerView]())
	clientShape    = shapeOf(reflect.TypeFor[clientServer]())
	mountShape     = shapeOf(reflect.TypeFor[MountView]())
	resourcesShape = shapeOf(reflect.TypeFor[ResourcesView]())
	healthShape    = shapeOf(reflect.TypeFor[HealthView]())

	autoscalingShape = shapeOf(reflect.TypeFor[AutoscalingView]())
	scheduleShape    = shapeOf(reflect.TypeFor[ScheduleView]())
	updateShape      = shapeOf(reflect.TypeFor[UpdateView]())
	verifyShape      = shapeOf(reflect.TypeFor[VerifyView]())
	canaryShape      = shapeOf(reflect.TypeFor[CanaryView]())

	toolsShape       = shapeOf(reflect.TypeFor[ToolsView]())
	overrideShape    = shapeOf(reflect.TypeFor[ToolOverrideView]())
	annotationsShape = shapeOf(reflect.TypeFor[ToolAnnotationsView]())
	gatewayShape     = shapeOf(reflect.TypeFor[GatewayView]())
)

// shapeOf reads the tags of a struct type. It panics on an invalid tag, so that
// every test fails.
func shapeOf(t reflect.Type) shape {
	s := shape{keys: map[string]keyShape{}}
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if key == "-" {
			continue
		}
		k, err := keyShapeOf(f.Tag)
		if err != nil || key == "" {
			panic(fmt.Sprintf("fleetfile: field %s of %s: %v", f.Name, t, err))
		}
		s.order = append(s.order, key)
		s.keys[key] = k
	}
	return s
}

func keyShapeOf(tag reflect.StructTag) (keyShape, error) {
	k := keyShape{kind: kind(tag.Get("kind")), only: tag.Get("only")}
	bounds := strings.Fields(tag.Get("bounds"))
	var read func(string) (int64, error)
	switch k.kind {
	case kindChoice:
		k.choices = bounds
		return k, nil
	case kindCount, kindCounts, kindReplicas, kindAmount, kindNumber, kindCores:
		read = func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }
	case kindSize:
		read = ParseSize
	case kindDuration:
		read = func(s string) (int64, error) {
			d, err := time.ParseDuration(s)
			return int64(d), err
		}
	default:
		return k, nil
	}
	if len(bounds) != 2 {
		return k, fmt.Errorf("%d bounds, want 2", len(bounds))
	}
	var errLow, errHigh error
	k.low, errLow = read(bounds[0])
	k.high, errHigh = read(bounds[1])
	if errLow != nil || errHigh != nil || k.low > k.high {
		return k, fmt.Errorf("bounds %q", bounds)
	}
	return k, nil
}

// has reports whether the mapping can have the key.
func (s shape) has(key string) bool {
	_, ok := s.keys[key]
	return ok
}

// forImages reports whether the key is for images only.
func (k keyShape) forImages() bool { return k.only == "image" }
