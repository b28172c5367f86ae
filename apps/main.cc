#include <CLI/CLI.hpp>

#include "squish/base/version.h"
int main() { return 0; }
