#pragma once
#include "squish/quant/quantizer.h"

/// One function a method, each defined in the file of that name. A new method adds its line here
/// and one in registry.cc.
namespace squish::quant {

Method int_method(unsigned bits);  // int.cc: int2 ... int8
Method vptq_method();              // vptq.cc
Method aqlm_method();              // aqlm.cc
Method quip_method();              // quip.cc
Method trellis_method();           // trellis.cc

}  // namespace squish::quant
