package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"
)

// The size of a plot, and of the margins around its axes, in pixels.
const (
	plotWidth, plotHeight           = 860, 300
	leftMargin, rightMargin         = 48, 16
	topMargin, bottomMargin         = 34, 34
	axisWidth, axisHeight   float64 = plotWidth - leftMargin - rightMargin, plotHeight - topMargin - bottomMargin
)

// plots draws the targets of all policies over time, one SVG file for each load.
func (s *simulation) plots() map[string][]byte {
	out := make(map[string][]byte)
	for i := range s.loads {
		l := &s.loads[i]
		out[l.name+".svg"] = plot(l, s.compared[l.name])
	}
	return out
}

func plot(l *load, runs []*run) []byte {
	p := &svg{length: l.length}
	for _, r := range runs {
		for _, s := range r.samples {
			p.most = max(p.most, s.target, s.ideal)
		}
	}
	p.most = (p.most/5 + 1) * 5
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`,
		plotWidth, plotHeight, plotWidth, plotHeight)
	p.printf(`<title>Replicas under the load %s: %s</title>`, l.name, l.about)
	p.printf(`<rect width="%d" height="%d" fill="#ffffff"/>`, plotWidth, plotHeight)
	p.axes()
	p.line("ideal", "#888888", "#e6e6e6", 0, runs[0], func(s sample) int { return s.ideal })
	colours := []string{"#0b6e4f", "#c1440e", "#3a5fcd"}
	for i := len(runs) - 1; i >= 0; i-- { // ours on top
		p.line(runs[i].subject, colours[i], "none", i+1, runs[i], func(s sample) int { return s.target })
	}
	p.printf(`</svg>`)
	return p.Bytes()
}

// svg is a plot that is being drawn.
type svg struct {
	bytes.Buffer
	length time.Duration
	most   int // at the top of the vertical axis
}

func (p *svg) printf(format string, args ...any) {
	fmt.Fprintf(p, format, args...)
	p.WriteByte('\n')
}

func (p *svg) x(at time.Duration) float64 {
	return leftMargin + axisWidth*at.Seconds()/p.length.Seconds()
}

func (p *svg) y(replicas int) float64 {
	return topMargin + axisHeight*(1-float64(replicas)/float64(p.most))
}

func (p *svg) axes() {
	step := 5 * int(math.Ceil(float64(p.most)/25))
	for n := 0; n <= p.most; n += step {
		p.printf(`<path d="M%d %.1fH%d" stroke="#dddddd"/>`, leftMargin, p.y(n), plotWidth-rightMargin)
		p.printf(`<text x="%d" y="%.1f" text-anchor="end" fill="#333333">%d</text>`, leftMargin-6, p.y(n)+4, n)
	}
	every := 5 * time.Minute
	if p.length > 30*time.Minute {
		every *= 2
	}
	for at := time.Duration(0); at <= p.length; at += every {
		p.printf(`<text x="%.1f" y="%d" text-anchor="middle" fill="#333333">%.0f min</text>`, p.x(at), plotHeight-12, at.Minutes())
	}
}

// line draws how a number of a run changes, with its name in the place of the legend.
func (p *svg) line(name, colour, fill string, place int, r *run, number func(sample) int) {
	var path strings.Builder
	fmt.Fprintf(&path, "M%.1f %.1f", p.x(0), p.y(number(r.samples[0])))
	for i := 1; i < len(r.samples); i++ {
		if n := number(r.samples[i]); n != number(r.samples[i-1]) {
			fmt.Fprintf(&path, "H%.1fV%.1f", p.x(time.Duration(i)*sampleEvery), p.y(n))
		}
	}
	fmt.Fprintf(&path, "H%.1f", p.x(r.load.length))
	if fill != "none" {
		p.printf(`<path d="%sV%.1fH%.1fZ" fill="%s"/>`, path.String(), p.y(0), p.x(0), fill)
	}
	p.printf(`<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`, path.String(), colour)
	at := leftMargin + 110*place
	p.printf(`<path d="M%d 16h20" stroke="%s" stroke-width="3"/>`, at, colour)
	p.printf(`<text x="%d" y="20" fill="#333333">%s</text>`, at+26, name)
}
