/* Every function, with the types of the header, and what each does with nothing. */
#include <stdio.h>
#include <string.h>

#include "helix_tunnel.h"

#define CHECK(condition)                                   \
    do {                                                   \
        if (!(condition)) {                                \
            fprintf(stderr, "%d: %s\n", __LINE__, #condition); \
            return 1;                                      \
        }                                                  \
    } while (0)

int main(void) {
    helix_tunnel *(*start)(const char *, const char *, const char *, const char *,
                           const char *) = helix_tunnel_start;
    char text[64];
    size_t length;

    CHECK(start(NULL, NULL, NULL, NULL, NULL) == NULL);
    CHECK(helix_tunnel_error(text, sizeof text) == strlen("url is NULL"));
    CHECK(strcmp(text, "url is NULL") == 0);
    /* Cut to what there is room for, and the whole length told. */
    CHECK(helix_tunnel_error(text, 4) == strlen("url is NULL"));
    CHECK(strcmp(text, "url") == 0);
    CHECK(helix_tunnel_error(NULL, 0) == strlen("url is NULL"));

    CHECK(start("http://127.0.0.1:1", "\xff", NULL, NULL, "127.0.0.1:1") == NULL);
    helix_tunnel_error(text, sizeof text);
    CHECK(strcmp(text, "token is not UTF-8") == 0);
    CHECK(start("http://127.0.0.1:1", "t", "smtp", NULL, "127.0.0.1:1") == NULL);
    helix_tunnel_error(text, sizeof text);
    CHECK(strstr(text, "`smtp` is none of") != NULL);
    CHECK(start("http://127.0.0.1:1", "t", NULL, "No Name", "127.0.0.1:1") == NULL);
    CHECK(start("http://127.0.0.1:1", "t", NULL, NULL, "3000") == NULL);
    CHECK(start("no url", "t", NULL, NULL, "127.0.0.1:1") == NULL);

    CHECK(helix_tunnel_state(NULL) == HELIX_TUNNEL_INVALID);
    CHECK(helix_tunnel_wait(NULL, 1) == HELIX_TUNNEL_INVALID);
    length = helix_tunnel_url(NULL, text, sizeof text);
    CHECK(length == 0);
    CHECK(helix_tunnel_reason(NULL, text, sizeof text) == 0);
    helix_tunnel_error(text, sizeof text);
    CHECK(strcmp(text, "the tunnel is NULL") == 0);
    helix_tunnel_stop(NULL);
    CHECK(helix_tunnel_error(text, sizeof text) == 0);
    return 0;
}
