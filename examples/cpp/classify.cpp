// Name what is in a picture, in C++: one ONNX file says everything, as it does to the Python runtime.
//
//   edgecls export mobilenet_v2 --embed-preprocess --embed-top-k 5
//   classify mobilenet_v2-embedded.onnx photo.jpg crop.ppm ...
//
// Prints a line of JSON for each picture. A JPEG is resized and cropped as the file says, to the very pixels of
// edgecls_runtime (tests/test_cpp.py holds one against the other); a PPM (P6) is such a crop, and goes in as it is.
// What this example does not do it refuses: orientations of phones, CMYK, 16 bits, nearest neighbour.

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include <jpeglib.h>
#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>

using nlohmann::json;

struct Picture {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  // rows of pixels, top left first
  bool is_crop = false;
};

// ---------------------------------------------------------------------------------------------------- reading files

struct JpegError : jpeg_error_mgr {
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

// EXIF orientation (TIFF tag 0x0112 of the first directory), 1 if there is none.
int orientation(const jpeg_decompress_struct& jpeg) {
  for (auto* marker = jpeg.marker_list; marker != nullptr; marker = marker->next) {
    const std::uint8_t* data = marker->data;
    const std::size_t size = marker->data_length;
    if (marker->marker != JPEG_APP0 + 1 || size < 14 || std::memcmp(data, "Exif\0\0", 6) != 0) continue;
    const std::uint8_t* tiff = data + 6;
    const bool little = tiff[0] == 'I';
    auto number = [&](std::size_t at, int bytes) -> std::uint32_t {
      if (at + bytes > size - 6) return 0;
      std::uint32_t value = 0;
      for (int i = 0; i < bytes; ++i) value |= std::uint32_t{tiff[at + i]} << 8 * (little ? i : bytes - 1 - i);
      return value;
    };
    const std::size_t directory = number(4, 4);
    for (std::uint32_t entry = 0; entry < number(directory, 2); ++entry)
      if (number(directory + 2 + 12 * entry, 2) == 0x0112) return static_cast<int>(number(directory + 10 + 12 * entry, 2));
  }
  return 1;
}

// Nothing with a destructor may live in here: libjpeg's errors jump out.
void read_jpeg(std::FILE* file, Picture& picture) {
  jpeg_decompress_struct jpeg;
  JpegError error;
  jpeg.err = jpeg_std_error(&error);
  error.error_exit = [](j_common_ptr common) {
    auto* mine = static_cast<JpegError*>(common->err);
    mine->format_message(common, mine->message);
    std::longjmp(mine->jump, 1);
  };
  error.emit_message = [](j_common_ptr common, int level) {  // Pillow refuses what is cut short, too
    if (level < 0) common->err->error_exit(common);
  };
  if (setjmp(error.jump) != 0) {
    jpeg_destroy_decompress(&jpeg);
    throw std::runtime_error(error.message);
  }
  jpeg_create_decompress(&jpeg);
  jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xFFFF);
  jpeg_stdio_src(&jpeg, file);
  jpeg_read_header(&jpeg, TRUE);
  const int turned = orientation(jpeg);
  if (turned >= 2 && turned <= 8) {
    jpeg_destroy_decompress(&jpeg);
    throw std::runtime_error("EXIF orientation " + std::to_string(turned) + ": turn it upright first");
  }
  jpeg.out_color_space = JCS_RGB;  // gray, too; all else as libjpeg's defaults, which are Pillow's
  jpeg_start_decompress(&jpeg);
  picture.width = static_cast<int>(jpeg.output_width);
  picture.height = static_cast<int>(jpeg.output_height);
  picture.rgb.resize(std::size_t{3} * jpeg.output_width * jpeg.output_height);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = picture.rgb.data() + std::size_t{3} * jpeg.output_width * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  jpeg_destroy_decompress(&jpeg);
}

void read_ppm(std::FILE* file, Picture& picture) {
  int largest = 0;
  if (std::fscanf(file, "P6 %d %d %d", &picture.width, &picture.height, &largest) != 3 || largest != 255 ||
      picture.width < 1 || picture.height < 1 || picture.width > 1 << 14 || picture.height > 1 << 14)
    throw std::runtime_error("is no PPM of 8 bits (P6, without comments)");
  picture.is_crop = true;
  std::fgetc(file);  // the one white space behind the header
  picture.rgb.resize(std::size_t{3} * picture.width * picture.height);
  if (std::fread(picture.rgb.data(), 1, picture.rgb.size(), file) != picture.rgb.size())
    throw std::runtime_error("is cut short");
}

Picture read_picture(const std::string& path) {
  struct File {
    std::FILE* handle;
    ~File() {
      if (handle != nullptr) std::fclose(handle);
    }
  } file{std::fopen(path.c_str(), "rb")};
  if (file.handle == nullptr) throw std::runtime_error("cannot be opened");
  const int first = std::fgetc(file.handle);
  std::ungetc(first, file.handle);
  Picture picture;
  (first == 'P' ? read_ppm : read_jpeg)(file.handle, picture);
  return picture;
}

// --------------------------------------------------------------------------------------------------- resize and crop

// Pillow's resampling of 8-bit pixels: a window of doubles, rounded to 22 bits behind the point.
constexpr int kBits = 22;

double filter(const std::string& name, double x) {
  x = std::abs(x);
  if (name == "bilinear") return x < 1 ? 1 - x : 0;
  if (name != "bicubic") throw std::runtime_error("interpolation " + name + " is not in this example");
  constexpr double a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// Resize one axis to a length of `to`.
Picture resample(const Picture& in, int to, bool columns, const std::string& name) {
  const int from = columns ? in.height : in.width, lines = columns ? in.width : in.height;
  Picture out{columns ? in.width : to, columns ? to : in.height, {}, false};
  out.rgb.resize(std::size_t{3} * out.width * out.height);
  const std::ptrdiff_t step_in = columns ? 3 * in.width : 3, line_in = columns ? 3 : 3 * in.width;
  const std::ptrdiff_t step_out = columns ? 3 * out.width : 3, line_out = columns ? 3 : 3 * out.width;
  const double scale = static_cast<double>(from) / to, stretch = std::max(scale, 1.0);
  const double support = (name == "bicubic" ? 2.0 : 1.0) * stretch;
  for (int target = 0; target < to; ++target) {
    const double center = (target + 0.5) * scale;
    const int begin = std::max(0, static_cast<int>(center - support + 0.5));
    const int end = std::min(from, static_cast<int>(center + support + 0.5));
    std::vector<double> window;
    double sum = 0;
    for (int i = begin; i < end; ++i) sum += window.emplace_back(filter(name, (i - center + 0.5) * (1 / stretch)));
    std::vector<int> weights;
    for (double weight : window)
      weights.push_back(static_cast<int>(weight / sum * (1 << kBits) + (weight < 0 ? -0.5 : 0.5)));
    for (int line = 0; line < lines; ++line)
      for (int channel = 0; channel < 3; ++channel) {
        int value = 1 << (kBits - 1);
        for (int i = begin; i < end; ++i) value += in.rgb[line * line_in + i * step_in + channel] * weights[i - begin];
        out.rgb[line * line_out + target * step_out + channel] =
            static_cast<std::uint8_t>(std::clamp(value >> kBits, 0, 255));
      }
  }
  return out;
}

Picture resize(const Picture& picture, int width, int height, const std::string& name) {
  if (width == picture.width && height == picture.height) return picture;
  // Rows first, unless the height shrinks by far more; so from Pillow 13 on. Each pass rounds to 8 bits.
  const bool columns_first = picture.height > height && picture.height - height > 2 * (picture.width - width);
  return resample(resample(picture, columns_first ? height : width, columns_first, name),
                  columns_first ? width : height, !columns_first, name);
}

// As `preprocess` in the manifest says, which is as torchvision's Resize and CenterCrop do.
void put_crop(const Picture& picture, const json& preprocess, std::uint8_t* out) {
  const int height = preprocess.at("crop_size").at(0), width = preprocess.at("crop_size").at(1);
  if (picture.is_crop && (picture.width != width || picture.height != height))
    throw std::runtime_error("is no crop of " + std::to_string(width) + "x" + std::to_string(height));
  Picture resized = picture;
  if (!picture.is_crop) {
    int to_width = 0, to_height = 0;
    const json& size = preprocess.at("resize_size");
    if (size.is_array()) {
      to_height = size[0], to_width = size[1];
    } else if (const int shorter = size; picture.width <= picture.height) {
      to_width = shorter, to_height = static_cast<int>(static_cast<double>(shorter) * picture.height / picture.width);
    } else {
      to_height = shorter, to_width = static_cast<int>(static_cast<double>(shorter) * picture.width / picture.height);
    }
    resized = resize(picture, to_width, to_height, preprocess.at("interpolation"));
  }
  auto start = [](int length, int crop) {  // half to even; what lies outside of the picture is black
    return crop > length ? -((crop - length) / 2) : static_cast<int>(std::nearbyint((length - crop) / 2.0));
  };
  const int left = start(resized.width, width), top = start(resized.height, height);
  const bool turned = preprocess.at("color") == "BGR";
  std::memset(out, 0, std::size_t{3} * width * height);
  for (int y = std::max(0, -top); y < std::min(height, resized.height - top); ++y)
    for (int x = std::max(0, -left); x < std::min(width, resized.width - left); ++x)
      for (int channel = 0; channel < 3; ++channel)
        out[3 * (y * width + x) + channel] =
            resized.rgb[3 * (std::size_t(y + top) * resized.width + x + left) + (turned ? 2 - channel : channel)];
}

// ------------------------------------------------------------------------------------------------------- the model

class Model {
 public:
  explicit Model(const std::string& path)
      : session_(environment_, path.c_str(), options()),
        manifest_(read_manifest(path)),
        preprocess_(manifest_.at("preprocess")),
        input_(manifest_.at("input_name")),
        scores_(manifest_.at("top_k").at("scores_name")),
        indices_(manifest_.at("top_k").at("indices_name")),
        k_(manifest_.at("top_k").at("k")) {
    const json& crop = preprocess_.at("crop_size");
    shape_ = {manifest_.at("batch_size").is_null() ? 1 : manifest_.at("batch_size").get<int>(), crop.at(0), crop.at(1), 3};
    pixels_.resize(static_cast<std::size_t>(shape_[0] * shape_[1] * shape_[2] * shape_[3]));
  }

  // A list of {"index", "label", "score"}, best first.
  json classify(const Picture& picture) {
    put_crop(picture, preprocess_, pixels_.data());  // the first of a fixed batch; the rest is black
    const Ort::MemoryInfo memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const Ort::Value pixels =
        Ort::Value::CreateTensor<std::uint8_t>(memory, pixels_.data(), pixels_.size(), shape_.data(), shape_.size());
    const char* inputs[] = {input_.c_str()};
    const char* outputs[] = {scores_.c_str(), indices_.c_str()};
    const std::vector<Ort::Value> found = session_.Run(Ort::RunOptions{}, inputs, &pixels, 1, outputs, 2);
    const float* scores = found[0].GetTensorData<float>();
    const std::int64_t* indices = found[1].GetTensorData<std::int64_t>();
    json predictions = json::array();
    for (int i = 0; i < k_; ++i) {
      const auto index = static_cast<std::size_t>(indices[i]);
      // Several labels a picture: each counts from its own threshold on.
      if (manifest_.at("activation") == "sigmoid" && scores[i] < manifest_.at("thresholds").at(index)) continue;
      predictions.push_back({{"index", index}, {"label", manifest_.at("labels").at(index)}, {"score", scores[i]}});
    }
    return predictions;
  }

 private:
  static Ort::SessionOptions options() {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(2);
    // Threads spin while a run lasts, and not after it: the default of edgecls_runtime.
    options.AddConfigEntry("session.force_spinning_stop", "1");
    return options;
  }

  json read_manifest(const std::string& path) const {
    Ort::AllocatorWithDefaultOptions allocator;
    const Ort::AllocatedStringPtr text =
        session_.GetModelMetadata().LookupCustomMetadataMapAllocated("edgecls", allocator);
    if (text == nullptr) throw std::runtime_error(path + ": carries no manifest: edgecls did not export it");
    json manifest = json::parse(text.get());
    const std::string version = manifest.at("manifest_version");
    if (version.rfind("1.", 0) != 0) throw std::runtime_error(path + ": manifest " + version + ", not 1.x");
    if (manifest.at("preprocess").value("input_layout", "NCHW-float") != "NHWC-uint8" ||
        manifest.value("top_k", json()).is_null())
      throw std::runtime_error(path + ": export it with --embed-preprocess --embed-top-k K");
    return manifest;
  }

  Ort::Env environment_{ORT_LOGGING_LEVEL_FATAL, "classify"};
  Ort::Session session_;
  const json manifest_;
  const json& preprocess_;
  const std::string input_, scores_, indices_;
  const int k_;
  std::vector<std::int64_t> shape_;
  std::vector<std::uint8_t> pixels_;
};

int main(int count, char** arguments) {
  if (count < 3) {
    std::cerr << "usage: classify MODEL.onnx PICTURE...\n";
    return 2;
  }
  try {
    Model model(arguments[1]);
    bool failed = false;
    for (int i = 2; i < count; ++i) {
      json record = {{"image", arguments[i]}, {"predictions", json::array()}, {"error", nullptr}};
      try {
        record["predictions"] = model.classify(read_picture(arguments[i]));
      } catch (const std::exception& error) {
        record["error"] = std::string(arguments[i]) + ": " + error.what();
        failed = true;
      }
      std::cout << record << '\n';
    }
    return failed ? 1 : 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 1;
  }
}
