package fleet

import (
	"strings"
	"testing"
)

func TestCheckRunOptions(t *testing.T) {
	for _, tt := range []struct {
		options string // separated by spaces
		edit    func(*Template)
		want    string // words of the error, "" for none
	}{
		{"--shm-size=1g --add-host=db:10.0.0.7 --add-host=v6:fd00::1 --dns=1.1.1.1 --dns-option=ndots:1 --dns-search=lan --hostname=box.lan", nil, ""},
		{"--tmpfs=/tmp --tmpfs=/x:size=1m,mode=1777 --ulimit=nofile=1:2 --ulimit=core=-1 --ipc=private --group-add=audio --device=/dev/dri", nil, ""},
		{"--security-opt=seccomp=unconfined --security-opt=label=disable --sysctl=net.core.somaxconn=1 --userns=keep-id:uid=1", nil, ""},
		{"--ipc=host", nil, ""},
		{"shm-size=1g", nil, "must be --name=value"},
		{"--shm-size", nil, "must be --name=value"},
		{"--privileged=true", nil, "not one of the options"},
		{"--volume=/a:/b", nil, "not one of the options"},
		{"--shm-size=much", nil, "the value of --shm-size must be an amount of memory"},
		{"--add-host=db", nil, "the value of --add-host must be a name and an address"},
		{"--add-host=db:1.2.3", nil, "the value of --add-host must be a name and an address"},
		{"--add-host=h:host-gateway", nil, "host.containers.internal"},
		{"--dns=999.1.1.1", nil, "the value of --dns must be an address"},
		{"--ipc=container:x", nil, "the value of --ipc must be host, none, private or shareable"},
		{"--tmpfs=x", nil, "the value of --tmpfs must be an absolute path"},
		{"--tmpfs=/./", nil, "cannot be /"},
		{"--ulimit=nofile", nil, "NAME=SOFT:HARD"},
		{"--security-opt=no-new-privileges", nil, "no_new_privileges"},
		{"--ipc=host --shm-size=1g", nil, "--shm-size needs"},
		{"--dns=1.1.1.1", func(t *Template) { t.Network = "none" }, "--dns has no use"},
		{"--tmpfs=/data/:size=1m", func(t *Template) { t.Mounts = []Mount{{Source: "v", Target: "/data"}} }, "same target"},
	} {
		tmpl := &Template{RunOptions: strings.Fields(tt.options)}
		if tt.edit != nil {
			tt.edit(tmpl)
		}
		if err := tmpl.CheckRunOptions(); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.options, err, tt.want)
		}
	}
}
