package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/mcpfleet/mcpfleet/test/section"
)

// report prints the medians and their ratios, and writes them as Markdown if a file
// is given.
func report(cfg config, order []string, results map[point][]result, memory []memoryRow, overload []overloadRow, waiting []idleRow, stdout io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Medians of %d alternating rounds of %s for each subject, size and number of callers. Client and\nserver shared %d %s/%s cores.\n",
		cfg.rounds, cfg.duration, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	for _, size := range cfg.sizes {
		if len(order) == 0 {
			break
		}
		fmt.Fprintf(&b, "\n### %s echo\n\n", bytesText(size))
		writeTable(&b, cfg, order, results, size)
		writeAim(&b, results, size)
	}
	if len(memory) > 0 {
		b.WriteString("\n### Memory before any load\n\n| subject | process | RSS MiB | PSS MiB |\n|---|---|--:|--:|\n")
		for _, m := range memory {
			fmt.Fprintf(&b, "| %s | %s | %.1f | %.1f |\n", m.subject, m.role, mib(m.rss), mib(m.pss))
		}
	}
	writeOverload(&b, overload)
	writeIdle(&b, waiting)
	if _, err := io.WriteString(stdout, b.String()); err != nil {
		return err
	}
	if cfg.report == "" {
		return nil
	}
	return section.Write(cfg.report, "Calls", preamble+b.String())
}

func writeTable(b *strings.Builder, cfg config, order []string, results map[point][]result, size int) {
	b.WriteString("| subject | callers | calls/s | to naive | to pipe | p50 ms | p90 | p99 | max | CPU µs a call |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n")
	for _, callers := range cfg.callers {
		ratio := func(rate float64, to string) string {
			base := results[point{to, callers, size}]
			if len(base) == 0 {
				return "-"
			}
			return fmt.Sprintf("%.2f", rate/medianOf(base).rate)
		}
		for _, name := range order {
			runs := results[point{name, callers, size}]
			if len(runs) == 0 {
				continue
			}
			m := medianOf(runs)
			fmt.Fprintf(b, "| %s | %d | %.0f | %s | %s | %.2f | %.2f | %.2f | %.2f | %s |\n",
				name, callers, m.rate, ratio(m.rate, "naive"), ratio(m.rate, "pipe"),
				ms(m.p50), ms(m.p90), ms(m.p99), ms(m.max), cpuText(m.cpu))
		}
	}
}

// aim is how many times the calls of the naive chain modern clients shall get through,
// with this number of callers.
const (
	aim        = 1.8
	aimCallers = 64
)

// writeAim says how modern clients fare against the naive chain.
func writeAim(b *strings.Builder, results map[point][]result, size int) {
	modern, naive := results[point{"mcpfleet modern", aimCallers, size}], results[point{"naive", aimCallers, size}]
	if len(modern) == 0 || len(naive) == 0 {
		return
	}
	fmt.Fprintf(b, "\nWith %d callers, modern MCP clients get %.2f times the calls of the naive chain through\nmcpfleet. The aim is at least %.1f times.\n",
		aimCallers, medianOf(modern).rate/medianOf(naive).rate, aim)
}

func cpuText(cpu map[string]time.Duration) string {
	roles := make([]string, 0, len(cpu))
	for role := range cpu {
		roles = append(roles, role)
	}
	slices.Sort(roles)
	var parts []string
	for _, role := range roles {
		parts = append(parts, fmt.Sprintf("%s %d", role, cpu[role].Microseconds()))
	}
	return strings.Join(parts, ", ")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func mib(n int64) float64        { return float64(n) / (1 << 20) }

func bytesText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

const preamble = "`make bench`" + ` writes this section. Machines differ, and so do runs on one machine: compare the
ratios, not the absolute figures.

| subject | what it is |
|---|---|
| pipe | the stdio server driven directly over its pipes by one client |
| http | a bare net/http server that returns the body: the minimum cost of any HTTP service |
| naive | HTTP -> unary gRPC -> pipe with encoding/json at each hop, in three processes |
| worker | one mcpfleet worker, called over gRPC; its replica is a plain process |
| mcpfleet | the whole path: HTTP ` + "`/call`" + ` -> controller -> worker -> replica |
| mcpfleet modern | the same by MCP at ` + "`/{server}/mcp`" + `: each request on its own, as of 2026-07-28 |
| mcpfleet legacy | the same in a session of 2025-11-25 for each caller |
| go-sdk, mcp-go | a gateway built from that SDK: its Streamable HTTP server in front of one stdio server |
| ...+podman | the same with the replica in a container |

"to naive" and "to pipe" are calls per second relative to those of that subject at the same size and
number of callers. CPU is user and system time of each process per answered call. "driver" is the
client, which is as lean for all of them: it shares the cores, and what it uses is missing in the
figures of the others.

`
