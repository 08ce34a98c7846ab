/* pause [MILLISECONDS]: wait for SIGTERM, or end after so long. What every container of the lab runs. */
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void end(int number) {
  (void)number;
  _exit(0);
}

int main(int count, char **words) {
  signal(SIGTERM, end);
  signal(SIGINT, end);
  if (count > 1) {
    long milliseconds = atol(words[1]);
    struct timespec time = {milliseconds / 1000, (milliseconds % 1000) * 1000000};
    nanosleep(&time, 0);
    return 0;
  }
  for (;;) pause();
}
