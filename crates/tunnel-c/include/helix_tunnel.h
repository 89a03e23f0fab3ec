/* An agent of a HelixStack tunnel inside a program: it gives what listens on this machine
 * a public URL or port, for as long as it is not stopped.
 *
 * Functions may be called from any thread. Strings are UTF-8 and end with a zero byte.
 * Those that come back are copied to a buffer of the caller's: the result is the length
 * of the whole string without its zero byte; it was cut if that is not less than `size`.
 * With a size of 0 nothing is written and `buffer` may be NULL.
 */
#ifndef HELIX_TUNNEL_H
#define HELIX_TUNNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct helix_tunnel helix_tunnel;

enum {
    HELIX_TUNNEL_STARTING = 0, /* on the way to an edge for the first time */
    HELIX_TUNNEL_ATTACHED = 1, /* visitors come */
    HELIX_TUNNEL_WAITING = 2,  /* trying again in a moment */
    HELIX_TUNNEL_ENDED = 3,    /* for good */
    HELIX_TUNNEL_INVALID = -1  /* no tunnel was given */
};

/* Has a tunnel and starts its agent, in threads of its own. Waits for the server's answer,
 * not for the edge.
 *
 * url       of the server, such as "http://127.0.0.1:7420"
 * token     a token of the API with the scope tunnels:write
 * protocol  "http", "tls", "tcp" or "udp"; NULL is "http"
 * name      what the tunnel is called; NULL is a random name
 * target    where the program listens, such as "127.0.0.1:3000"
 *
 * NULL when there is none: helix_tunnel_error says why. What it gives is freed by
 * helix_tunnel_stop. */
helix_tunnel *helix_tunnel_start(const char *url, const char *token, const char *protocol,
                                 const char *name, const char *target);

/* Where visitors find it. */
size_t helix_tunnel_url(const helix_tunnel *tunnel, char *buffer, size_t size);

/* How things stand: one of HELIX_TUNNEL_... */
int helix_tunnel_state(const helix_tunnel *tunnel);

/* Waits until it is attached or has ended, at most so long. How things stand then. */
int helix_tunnel_wait(const helix_tunnel *tunnel, uint32_t timeout_ms);

/* Why it waits, or has ended; empty otherwise. */
size_t helix_tunnel_reason(const helix_tunnel *tunnel, char *buffer, size_t size);

/* What went wrong last with a call of this thread; empty if nothing did. */
size_t helix_tunnel_error(char *buffer, size_t size);

/* Stops it and frees it; visitors that are there are cut off. NULL is nothing to do. */
void helix_tunnel_stop(helix_tunnel *tunnel);

#ifdef __cplusplus
}
#endif

#endif
