// Reads or writes a file and says how that went, as a program of its own: `readwrite --read PATH`, `readwrite --write
// PATH`. Writing appends a byte.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **words)
{
	char byte = '\n';

	if (count != 3)
		return 2;
	int write_it = strcmp(words[1], "--write") == 0;
	int file = open(words[2], write_it ? O_WRONLY | O_APPEND : O_RDONLY);
	if (file < 0 || (write_it ? write(file, &byte, 1) : read(file, &byte, 1)) != 1) {
		printf("%s: %s\n", words[2], strerror(errno));
		return 1;
	}
	printf("%s: done\n", words[2]);
	return 0;
}
