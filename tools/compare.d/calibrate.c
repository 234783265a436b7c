// What this machine gives at this moment: the clock of a core, and the cost of a cache line that is nowhere near.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { LINES = 1 << 21, STEPS = 1 << 20, REPEATS = 5 };   // 128 MiB: about the flow table of a million flows

struct line {
	struct line *next;
	char rest[56];
};

static double seconds(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

#ifdef __x86_64__
#define ADD "add %1, %0\n"
#else
#define ADD "add %0, %0, %1\n"
#endif
// Each add waits for the one before: one per cycle. Not of a constant: newer cores add those while they rename registers.
static double clock_ghz(void) {
	uint64_t x = 0, one = 1, count = 100 * 1000 * 1000;
	double start = seconds();
	for (uint64_t i = 0; i < count; i += 8) __asm__ volatile(ADD ADD ADD ADD ADD ADD ADD ADD : "+r"(x) : "r"(one));
	return count / (seconds() - start) / 1e9;
}

static struct line *one_random_circle(void) {
	static uint64_t state = 88172645463325252;
	struct line *lines = mmap(NULL, (size_t)LINES * sizeof *lines, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t *order = malloc(LINES * sizeof *order);
	if (lines == MAP_FAILED || !order) exit(1);
	madvise(lines, (size_t)LINES * sizeof *lines, MADV_HUGEPAGE);
	for (uint32_t i = 0; i < LINES; i++) order[i] = i;
	for (uint32_t i = LINES - 1; i > 0; i--) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		uint32_t j = state % i, other = order[j];
		order[j] = order[i], order[i] = other;
	}
	for (uint32_t i = 0; i < LINES; i++) lines[order[i]].next = &lines[order[(i + 1) % LINES]];
	free(order);
	return lines;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int main(void) {
	double ghz[REPEATS], ns[REPEATS];
	struct line *at = one_random_circle();
	for (int r = 0; r < REPEATS; r++) {
		ghz[r] = clock_ghz();
		double start = seconds();
		for (uint32_t i = 0; i < STEPS; i++) at = at->next;
		ns[r] = (seconds() - start) / STEPS * 1e9;
	}
	qsort(ghz, REPEATS, sizeof *ghz, ascending);
	qsort(ns, REPEATS, sizeof *ns, ascending);
	printf("%.2f %.0f %s\n", ghz[REPEATS / 2], ns[REPEATS / 2], at ? "" : "never");
	return 0;
}
