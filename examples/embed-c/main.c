/* A program in C that gives another one on this machine a public URL.
 *
 *     embed-c URL TOKEN NAME TARGET
 *
 * It says the URL once visitors come, and ends with its standard input. */
#include <stdio.h>

#include "helix_tunnel.h"

enum { ATTACH_TIMEOUT_MS = 20000 };

int main(int count, char **arguments) {
    char text[512];
    if (count != 5) {
        fprintf(stderr, "usage: %s URL TOKEN NAME TARGET\n", arguments[0]);
        return 2;
    }
    helix_tunnel *tunnel =
        helix_tunnel_start(arguments[1], arguments[2], "http", arguments[3], arguments[4]);
    if (tunnel == NULL) {
        helix_tunnel_error(text, sizeof text);
        fprintf(stderr, "no tunnel: %s\n", text);
        return 1;
    }
    if (helix_tunnel_wait(tunnel, ATTACH_TIMEOUT_MS) != HELIX_TUNNEL_ATTACHED) {
        helix_tunnel_reason(tunnel, text, sizeof text);
        fprintf(stderr, "no edge (state %d): %s\n", helix_tunnel_state(tunnel), text);
        helix_tunnel_stop(tunnel);
        return 1;
    }
    helix_tunnel_url(tunnel, text, sizeof text);
    printf("%s\n", text);
    fflush(stdout);
    while (getchar() != EOF) {
    }
    helix_tunnel_stop(tunnel);
    return 0;
}
