/* The few functions of NVIDIA's management library that trainenv asks, over GPUs that the variable
   TEST_GPUS describes: total and used memory in MiB, such as "81920/0 81920/81000". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { unsigned long long total, free, used; } Memory;

static const char *nth(unsigned index) {
    const char *at = getenv("TEST_GPUS");
    while (at && index--) if ((at = strchr(at, ' '))) at++;
    return at;
}
int nvmlInit_v2(void) { return getenv("TEST_GPUS") ? 0 : 9; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int error) { return error == 9 ? "Driver Not Loaded" : "Unknown Error"; }
int nvmlDeviceGetCount_v2(unsigned *count) {
    for (*count = 0; nth(*count); ++*count) continue;
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (!nth(index)) return 2;
    *device = (void *)(unsigned long)(index + 1);
    return 0;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    return nvmlDeviceGetHandleByIndex_v2(atoi(uuid + 4), device);
}
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    snprintf(uuid, length, "GPU-%lu-of-the-test", (unsigned long)device - 1);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
    sscanf(nth((unsigned long)device - 1), "%llu/%llu", &memory->total, &memory->used);
    memory->total <<= 20;
    memory->used <<= 20;
    memory->free = memory->total - memory->used;
    return 0;
}
