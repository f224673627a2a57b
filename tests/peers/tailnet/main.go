// Tailnet is a whole tailnet for hosts without an internet: a control server, a relay (DERP) and
// a STUN server, on one address. All three are Tailscale's own, the ones it tests itself with.
//
//	tailnet --address 10.99.0.100
//
// Nodes join with `tailscale up --login-server http://10.99.0.100:8080`: nobody is asked who they
// are. Every node may ssh to every other as dev and as root, where `--ssh` is on. Nodes and keys
// are forgotten when the program ends. Control listens on 8080, the relay on 8443, STUN on 3478, and
// the person who approves routes on 8081:
//
//	curl --data '0.0.0.0/0 ::/0 10.200.0.0/24' http://10.99.0.100:8081/routes/guppy
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

const (
	controlPort = "8080"
	adminPort   = "8081"
	relayPort   = "8443"
	stunPort    = 3478
)

func main() {
	address := flag.String("address", "", "IPv4 address to listen on")
	flag.Parse()
	if net.ParseIP(*address).To4() == nil {
		log.Fatalf("--address: %q is no IPv4 address", *address)
	}

	stun := stunserver.New(context.Background())
	if err := stun.Listen((&net.UDPAddr{IP: net.ParseIP(*address), Port: stunPort}).String()); err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(stun.Serve()) }()
	serveRelay(listen(*address, relayPort))

	control := &testcontrol.Server{
		Logf:             logger.Discard,
		ExplicitBaseURL:  "http://" + net.JoinHostPort(*address, controlPort),
		DERPMap:          relays(*address),
		MagicDNSDomain:   "tailnet.test",
		AllNodesSameUser: true,
		AllOnline:        true,
		SSHPolicy: &tailcfg.SSHPolicy{Rules: []*tailcfg.SSHRule{{
			Principals: []*tailcfg.SSHPrincipal{{Any: true}},
			SSHUsers:   map[string]string{"dev": "dev", "root": "root"},
			Action:     &tailcfg.SSHAction{Accept: true, AllowLocalPortForwarding: true},
		}}},
	}
	admin := http.NewServeMux()
	admin.HandleFunc("POST /routes/{host}", func(w http.ResponseWriter, r *http.Request) {
		if err := approve(control, r.PathValue("host"), r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	adminListener := listen(*address, adminPort)
	go func() { log.Fatal(http.Serve(adminListener, admin)) }()
	log.Printf("control, relay and STUN listen on %s", *address)
	log.Fatal(http.Serve(listen(*address, controlPort), control))
}

// approve makes these prefixes all that a node may route, as a person does in the admin console.
func approve(control *testcontrol.Server, host string, body io.Reader) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var routes []netip.Prefix
	for _, word := range strings.Fields(string(text)) {
		route, err := netip.ParsePrefix(word)
		if err != nil {
			return err
		}
		routes = append(routes, route)
	}
	for _, node := range control.AllNodes() {
		if node.Hostinfo.Hostname() == host {
			control.SetSubnetRoutes(node.Key, routes)
			return nil
		}
	}
	return fmt.Errorf("no node is called %q", host)
}

func listen(address, port string) net.Listener {
	listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

// serveRelay serves with the certificate that comes with httptest: nodes do not compare it, since
// the map below says InsecureForTests.
func serveRelay(listener net.Listener) {
	relay := derpserver.New(key.NewNode(), logger.Discard)
	server := httptest.NewUnstartedServer(derpserver.Handler(relay))
	server.Listener.Close()
	server.Listener = listener
	// A node takes over the connection, which HTTP/2 has no way to do.
	server.EnableHTTP2 = false
	server.StartTLS()
}

func relays(address string) *tailcfg.DERPMap {
	node := &tailcfg.DERPNode{
		Name:             "1",
		RegionID:         1,
		HostName:         address,
		IPv4:             address,
		IPv6:             "none",
		STUNPort:         stunPort,
		STUNTestIP:       address,
		DERPPort:         8443,
		InsecureForTests: true,
	}
	region := &tailcfg.DERPRegion{RegionID: 1, RegionCode: "lab", Nodes: []*tailcfg.DERPNode{node}}
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: region}}
}
