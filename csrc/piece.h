/*
 * piece.h - see piece.c.
 */
#include <sys/types.h>
#include "traffic.h"

ssize_t jail_piece_copy(char *buffer, size_t len, int from, int to, uint32_t *come);
ssize_t jail_piece_move(struct jail_traffic *traffic, struct jail_pair *pair, int direction);
void jail_piece_drop(struct jail_pair *pair);
